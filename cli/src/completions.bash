# bash splits words at colons, so "sysv:42" would be three words. This function joins
# them, and removes what is before the last colon from the candidates, because bash
# keeps it.
_shm_sync() {
    local word current prefix joins=
    local -a joined=()
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ $joins || $word == :* ]] && ((${#joined[@]} > 0)); then
            joined[${#joined[@]}-1]+=$word
        else
            joined+=("$word")
        fi
        joins=
        [[ $word != *: ]] || joins=1
    done
    local -a COMP_WORDS=("${joined[@]}")
    local COMP_CWORD=$((${#joined[@]} - 1))
    current=${joined[COMP_CWORD]}
    _clap_complete_shm_sync "$1" "$current" "$3"
    if [[ $COMP_WORDBREAKS == *:* && $current == *:* ]]; then
        prefix=${current%"${current##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
}
complete -o nospace -o bashdefault -F _shm_sync shm-sync
