//! SipHash-2-4 with 128 bits for messages of 64-bit words, at compile time.

/// The state of the hash (Aumasson and Bernstein, "SipHash: a fast short-input PRF").
#[derive(Clone, Copy, Debug)]
pub(super) struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
    words: u64,
}

impl SipHash {
    /// Starts a message.
    pub(super) const fn new(key: [u64; 2]) -> Self {
        Self {
            v0: key[0] ^ 0x736f_6d65_7073_6575,
            v1: key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: key[0] ^ 0x6c79_6765_6e65_7261,
            v3: key[1] ^ 0x7465_6462_7974_6573,
            words: 0,
        }
    }

    /// Returns the number of words so far.
    pub(super) const fn len(&self) -> u64 {
        self.words
    }

    /// Adds eight bytes, in little-endian order.
    pub(super) const fn word(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round().round();
        self.v0 ^= word;
        self.words += 1;
        self
    }

    /// Ends the message and returns its hash. Byte 0 is the lowest.
    pub(super) const fn finish(self) -> u128 {
        // The last block holds the length in bytes, modulo 256, in its top byte.
        let mut end = self.word(self.words << 59);
        end.v2 ^= 0xee;
        end = end.round().round().round().round();
        let low = end.v0 ^ end.v1 ^ end.v2 ^ end.v3;
        end.v1 ^= 0xdd;
        end = end.round().round().round().round();
        let high = end.v0 ^ end.v1 ^ end.v2 ^ end.v3;
        low as u128 | (high as u128) << 64
    }

    // The compiler interprets this. Its interpreter is fast for operators and slow for
    // calls: `wrapping_add` and `rotate_left` would double the compile time of a
    // derive.
    #[expect(clippy::manual_rotate, reason = "the compile time")]
    const fn round(self) -> Self {
        let v0 = (self.v0 as u128 + self.v1 as u128) as u64;
        let v1 = (self.v1 << 13 | self.v1 >> 51) ^ v0;
        let v0 = v0 << 32 | v0 >> 32;
        let v2 = (self.v2 as u128 + self.v3 as u128) as u64;
        let v3 = (self.v3 << 16 | self.v3 >> 48) ^ v2;
        let v0 = (v0 as u128 + v3 as u128) as u64;
        let v3 = (v3 << 21 | v3 >> 43) ^ v0;
        let v2 = (v2 as u128 + v1 as u128) as u64;
        let v1 = (v1 << 17 | v1 >> 47) ^ v2;
        Self {
            v0,
            v1,
            v2: v2 << 32 | v2 >> 32,
            v3,
            words: self.words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SipHash;

    /// Hashes the bytes 0, 1, 2, … with the key 0, 1, …, 15.
    fn hash_of(words: u64) -> u128 {
        let word = |at: u64| u64::from_le_bytes(std::array::from_fn(|i| at as u8 * 8 + i as u8));
        let start = SipHash::new([word(0), word(1)]);
        (0..words)
            .fold(start, |hash, at| hash.word(word(at)))
            .finish()
    }

    /// The values are those of OpenSSL 3 (`openssl mac -macopt size:16 SIPHASH`); the
    /// first is also the first of `vectors_sip128` in the authors' reference.
    #[test]
    fn smoke() {
        let expected: [(u64, u128); 5] = [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293),
            (1, 0x3b62_a9ba_6258_f561_0f83_e264_f314_97b4),
            (2, 0x6ee2_a4ca_67b0_54bb_fd33_15bf_8523_0577),
            (3, 0x2db4_79ae_78bd_50d8_882a_8a17_8a61_32ad),
            (5, 0xdf6a_301e_95c9_5dad_97ae_0cc8_c691_3bd8),
        ];
        for (words, hash) in expected {
            assert_eq!(hash_of(words), hash.swap_bytes(), "{words} words");
        }
    }

    #[test]
    fn constant_and_runtime_hashes_are_equal() {
        const HASH: u128 = SipHash::new([1, 2]).word(3).word(4).finish();
        let [one, two, three, four] = std::hint::black_box([1, 2, 3, 4]);
        assert_eq!(
            SipHash::new([one, two]).word(three).word(four).finish(),
            HASH
        );
    }
}
