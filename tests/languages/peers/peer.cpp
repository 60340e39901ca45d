// The peer in C++: see protocol.md.
#include "world.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Words = std::vector<std::string>;

constexpr std::uint64_t STOP = std::numeric_limits<std::uint64_t>::max();

// A result that ends a command.
struct Refusal : std::exception {
    explicit Refusal(shm_sync::result of) : result(of) {}
    shm_sync::result result;
};

std::string ok(std::uint64_t number)
{
    std::ostringstream text;
    text << "ok " << number;
    return text.str();
}

void expect(shm_sync::result result)
{
    if (result != SHM_SYNC_OK) {
        throw Refusal(result);
    }
}

std::string name_of(shm_sync::result result)
{
    static const std::map<shm_sync::result, std::string> names = {
        {SHM_SYNC_OK, "ok"},
        {SHM_SYNC_TIMED_OUT, "timed_out"},
        {SHM_SYNC_WOULD_BLOCK, "would_block"},
        {SHM_SYNC_DEADLOCK, "deadlock"},
        {SHM_SYNC_NOT_HELD, "not_held"},
        {SHM_SYNC_NOT_PLACED, "not_placed"},
        {SHM_SYNC_TOO_MANY_LOCKS, "too_many_locks"},
        {SHM_SYNC_FOREIGN_PID_NAMESPACE, "foreign_pid_namespace"},
        {SHM_SYNC_DISCONNECTED, "disconnected"},
        {SHM_SYNC_PEER_DIED, "peer_died"},
        {SHM_SYNC_NOT_FOUND, "not_found"},
        {SHM_SYNC_NO_SUCH_FIELD, "no_such_field"},
        {SHM_SYNC_NOT_A_SEGMENT, "not_a_segment"},
        {SHM_SYNC_UNSUPPORTED_FORMAT, "unsupported_format"},
        {SHM_SYNC_LAYOUT_MISMATCH, "layout_mismatch"},
        {SHM_SYNC_CORRUPT, "corrupt"},
        {SHM_SYNC_PERMISSION_DENIED, "permission_denied"},
        {SHM_SYNC_WRONG_OWNER, "wrong_owner"},
        {SHM_SYNC_TOO_PERMISSIVE, "too_permissive"},
        {SHM_SYNC_TOO_MANY_ENDPOINTS, "too_many_endpoints"},
        {SHM_SYNC_STALE, "stale"},
        {SHM_SYNC_IN_USE, "in_use"},
        {SHM_SYNC_NO_ROBUST_LISTS, "no_robust_lists"},
        {SHM_SYNC_NO_FORK_DETECTION, "no_fork_detection"},
    };
    auto found = names.find(result);
    return found == names.end() ? shm_sync::text(result) : found->second;
}

std::uint64_t number(const std::string &word)
{
    return std::stoull(word);
}

milliseconds duration(const std::string &word)
{
    return milliseconds(static_cast<std::int64_t>(number(word)));
}

// Changes the ledger, in two steps that a death can separate.
void add(ledger &data)
{
    data.total += 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    data.check += 1;
}

class Peer {
  public:
    // Executes a command, and returns the reply.
    std::string execute(const Words &words)
    {
        try {
            return commands().at(words.at(0))(*this, words);
        } catch (const Refusal &refusal) {
            return refusal.result == SHM_SYNC_POISONED ? cause() : name_of(refusal.result);
        }
    }

    shm_sync::result close()
    {
        held_.reset();
        permits_.clear();
        sender_.reset();
        receiver_.reset();
        ledger_ = nullptr;
        return segment_.close();
    }

  private:
    using Command = std::function<std::string(Peer &, const Words &)>;

    static const std::map<std::string, Command> &commands();

    void open(const std::string &address, const std::string &fingerprint)
    {
        expect(segment_.open(address.c_str(), fingerprint == "-" ? nullptr : fingerprint.c_str()));
        shm_sync_object found;
        expect(segment_.find(".ledger", SHM_SYNC_KIND_MUTEX, found));
        ledger_ = static_cast<guarded_ledger *>(found.at);
        expect(segment_.find(".changed", SHM_SYNC_KIND_CONDVAR, found));
        changed_ = static_cast<shm_sync_condvar *>(found.at);
        expect(segment_.find(".permits", SHM_SYNC_KIND_SEMAPHORE, semaphore_));
        expect(segment_.find(".bytes", SHM_SYNC_KIND_CHANNEL, bytes_));
        for (const char *path : {".gate", ".turnstile"}) {
            expect(segment_.find(path, SHM_SYNC_KIND_EVENT, found));
            events_[path + 1] = static_cast<shm_sync_event *>(found.at);
        }
    }

    // Returns why the ledger is poisoned.
    std::string cause() const
    {
        shm_sync_cause cause;
        shm_sync::result result = shm_sync_poison_cause(&ledger_->lock, &cause);
        if (result != SHM_SYNC_POISONED) {
            return name_of(result);
        }
        std::ostringstream text;
        text << "poisoned " << (cause.kind == SHM_SYNC_OWNER_FAILED ? "panicked " : "owner_died ")
             << cause.pid << ' ' << cause.tid;
        return text.str();
    }

    // Keeps the lock, if there is one.
    std::string keep(shm_sync::guard guard)
    {
        shm_sync::result result = guard.outcome();
        if (guard.held()) {
            held_.emplace(std::move(guard));
        }
        expect(result);
        return "ok";
    }

    // Locks the ledger. Repairs it if it is poisoned, and then counts.
    shm_sync::guard locked(std::uint64_t *repairs)
    {
        shm_sync::guard guard(ledger_->lock);
        if (guard.poisoned() && repairs != nullptr) {
            repair(guard);
            *repairs += 1;
        } else if (!guard) {
            throw Refusal(guard.outcome());
        }
        return guard;
    }

    void repair(shm_sync::guard &guard)
    {
        ledger_->data.check = ledger_->data.total;
        ledger_->data.inside = 0;
        ledger_->data.repairs += 1;
        expect(guard.recover());
    }

    std::string increment(std::uint64_t times)
    {
        std::uint64_t repairs = 0;
        for (std::uint64_t i = 0; i < times; i++) {
            shm_sync::guard guard = locked(&repairs);
            add(ledger_->data);
        }
        return ok(repairs);
    }

    void work(std::uint64_t index, std::uint64_t times)
    {
        shm_sync_object found;
        std::ostringstream path;
        path << ".workers[" << index << "].lock";
        expect(segment_.find(path.str().c_str(), SHM_SYNC_KIND_MUTEX, found));
        for (std::uint64_t i = 0; i < times; i++) {
            expect(second_unit_add(static_cast<guarded_number *>(found.at)));
        }
    }

    // An exception unwinds through a guard, which poisons.
    void fail()
    {
        try {
            shm_sync::guard guard = locked(nullptr);
            ledger_->data.total += 1;
            throw std::runtime_error("a holder fails");
        } catch (const std::runtime_error &) {
        }
    }

    std::string wait(std::uint64_t turn, std::optional<Clock::time_point> until)
    {
        shm_sync::guard guard(ledger_->lock);
        auto has_come = [&] { return ledger_->data.turn == turn; };
        if (guard) {
            (void)(until ? guard.wait_for(*changed_, *until, has_come)
                         : guard.wait(*changed_, has_come));
        }
        if (guard.poisoned()) {
            std::string reply = cause();
            repair(guard);
            return reply;
        }
        return name_of(guard.outcome());
    }

    void hand_over(std::uint64_t me, std::uint64_t other, std::uint64_t rounds)
    {
        shm_sync::guard guard = locked(nullptr);
        for (std::uint64_t round = 0; round < rounds; round++) {
            expect(guard.wait(*changed_, [&] { return ledger_->data.turn == me; }));
            add(ledger_->data);
            ledger_->data.turn = other;
            shm_sync_notify_one(changed_);
        }
    }

    std::string keep_permit(shm_sync::permit permit)
    {
        expect(permit.outcome());
        std::ostringstream text;
        text << "ok " << permit.index() << ' ' << (permit.after_death() ? 1 : 0);
        permits_.push_back(std::make_unique<shm_sync::permit>(std::move(permit)));
        return text.str();
    }

    shm_sync_event *event(const std::string &name) const { return events_.at(name); }

    shm_sync::sender<std::uint8_t> &sender()
    {
        if (!sender_) {
            throw Refusal(SHM_SYNC_NOT_HELD);
        }
        return *sender_;
    }

    shm_sync::receiver<std::uint8_t> &receiver()
    {
        if (!receiver_) {
            throw Refusal(SHM_SYNC_NOT_HELD);
        }
        return *receiver_;
    }

    void open_sender()
    {
        sender_ = std::make_unique<shm_sync::sender<std::uint8_t>>();
        expect(sender_->open(bytes_));
    }

    void open_receiver()
    {
        receiver_ = std::make_unique<shm_sync::receiver<std::uint8_t>>();
        expect(receiver_->open(bytes_));
    }

    std::string receive(const std::function<shm_sync::result(std::uint8_t &)> &call)
    {
        std::uint8_t byte = 0;
        expect(call(byte));
        return ok(byte);
    }

    // One round under the lock. Returns whether the storm is over.
    bool round_in_ledger(std::uint64_t me, std::uint64_t round)
    {
        std::uint64_t repairs = 0;
        shm_sync::guard guard = locked(&repairs);
        ledger &data = ledger_->data;
        if (repairs == 0 && (data.inside != 0 || data.total != data.check)) {
            data.violations += 1;
        }
        if (data.turn == STOP) {
            return true;
        }
        data.inside = me + 1;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        add(data);
        data.rounds[me] += 1;
        std::atomic_signal_fence(std::memory_order_seq_cst);
        data.inside = 0;
        if (round % 8 == 0) {
            shm_sync_notify_all(changed_);
        }
        if (round % 4 == 0) {
            shm_sync::result waited = guard.wait_for(*changed_, milliseconds(1));
            if (guard.poisoned()) {
                repair(guard);
            } else if (waited != SHM_SYNC_TIMED_OUT) {
                expect(waited);
            }
        }
        return false;
    }

    std::string storm(std::uint64_t me)
    {
        const milliseconds brief(1);
        if (me % 2 == 0) {
            open_sender();
        } else {
            open_receiver();
        }
        for (std::uint64_t round = 0;; round++) {
            if (round_in_ledger(me, round)) {
                return ok(round);
            }
            work(me % WORKERS, 1);
            {
                shm_sync::permit permit(semaphore_);
                expect(permit.outcome());
            }
            std::uint8_t byte = static_cast<std::uint8_t>(me);
            shm_sync::result passed =
                me % 2 == 0 ? sender().send_for(byte, brief) : receiver().recv_for(byte, brief);
            if (passed == SHM_SYNC_OK && me % 2 != 0 && (byte % 2 != 0 || byte > 7)) {
                throw std::runtime_error("a byte was not sent");
            }
            if (passed != SHM_SYNC_TIMED_OUT && passed != SHM_SYNC_DISCONNECTED
                && passed != SHM_SYNC_PEER_DIED) {
                expect(passed);
            }
            expect(shm_sync_event_set(event("turnstile")));
            shm_sync::result waited =
                shm_sync_event_wait_for(event("turnstile"), shm_sync::nanoseconds(brief));
            if (waited != SHM_SYNC_TIMED_OUT) {
                expect(waited);
            }
        }
    }

    shm_sync::segment segment_;
    guarded_ledger *ledger_ = nullptr;
    shm_sync_condvar *changed_ = nullptr;
    shm_sync_object semaphore_ = shm_sync_object();
    shm_sync_object bytes_ = shm_sync_object();
    std::map<std::string, shm_sync_event *> events_;
    std::optional<shm_sync::guard> held_;
    std::vector<std::unique_ptr<shm_sync::permit>> permits_;
    std::unique_ptr<shm_sync::sender<std::uint8_t>> sender_;
    std::unique_ptr<shm_sync::receiver<std::uint8_t>> receiver_;
};

shm_sync_kind kind_of(const std::string &name)
{
    static const std::map<std::string, shm_sync_kind> kinds = {
        {"ShmMutex", SHM_SYNC_KIND_MUTEX},       {"ShmCondvar", SHM_SYNC_KIND_CONDVAR},
        {"ShmEvent", SHM_SYNC_KIND_EVENT},       {"ShmSemaphore", SHM_SYNC_KIND_SEMAPHORE},
        {"ShmChannel", SHM_SYNC_KIND_CHANNEL},
    };
    return kinds.at(name);
}

const std::map<std::string, Peer::Command> &Peer::commands()
{
    // Runs something that replies with "ok" or throws.
    auto done = [](auto run) {
        return [run](Peer &peer, const Words &words) {
            run(peer, words);
            return std::string("ok");
        };
    };
    static const std::map<std::string, Command> all = {
        {"open", done([](Peer &peer, const Words &words) { peer.open(words.at(1), words.at(2)); })},
        {"close", done([](Peer &peer, const Words &) { expect(peer.close()); })},
        {"find", done([](Peer &peer, const Words &words) {
             shm_sync_object found;
             expect(peer.segment_.find(words.at(1).c_str(), kind_of(words.at(2)), found));
         })},
        {"lock", [](Peer &peer, const Words &) {
             return peer.keep(shm_sync::guard(peer.ledger_->lock));
         }},
        {"try_lock", [](Peer &peer, const Words &) {
             return peer.keep(shm_sync::guard(peer.ledger_->lock, shm_sync::try_to_lock));
         }},
        {"lock_for", [](Peer &peer, const Words &words) {
             return peer.keep(shm_sync::guard(peer.ledger_->lock, duration(words.at(1))));
         }},
        {"unlock", done([](Peer &peer, const Words &) {
             expect(peer.held_ ? peer.held_->unlock() : SHM_SYNC_NOT_HELD);
             peer.held_.reset();
         })},
        {"recover", done([](Peer &peer, const Words &) {
             if (!peer.held_) {
                 throw Refusal(SHM_SYNC_NOT_HELD);
             }
             peer.repair(*peer.held_);
         })},
        {"cause", [](Peer &peer, const Words &) { return peer.cause(); }},
        {"tear", done([](Peer &peer, const Words &) { peer.ledger_->data.total += 1; })},
        {"fail", done([](Peer &peer, const Words &) { peer.fail(); })},
        {"read", [](Peer &peer, const Words &) {
             shm_sync::guard guard = peer.locked(nullptr);
             const ledger &data = peer.ledger_->data;
             std::ostringstream text;
             text << "ok " << data.total << ' ' << data.check << ' ' << data.turn << ' '
                  << data.repairs;
             return text.str();
         }},
        {"increment", [](Peer &peer, const Words &words) {
             return peer.increment(number(words.at(1)));
         }},
        {"worker", done([](Peer &peer, const Words &words) {
             peer.work(number(words.at(1)), number(words.at(2)));
         })},
        {"turn", done([](Peer &peer, const Words &words) {
             shm_sync::guard guard = peer.locked(nullptr);
             peer.ledger_->data.turn = number(words.at(1));
             if (words.at(2) == "one") {
                 shm_sync_notify_one(peer.changed_);
             } else {
                 shm_sync_notify_all(peer.changed_);
             }
         })},
        {"wait", [](Peer &peer, const Words &words) {
             return peer.wait(number(words.at(1)), std::nullopt);
         }},
        {"wait_for", [](Peer &peer, const Words &words) {
             return peer.wait(number(words.at(1)), Clock::now() + duration(words.at(2)));
         }},
        {"wait_once", done([](Peer &peer, const Words &words) {
             shm_sync::guard guard = peer.locked(nullptr);
             expect(guard.wait_for(*peer.changed_, duration(words.at(1))));
         })},
        {"hand_over", done([](Peer &peer, const Words &words) {
             peer.hand_over(number(words.at(1)), number(words.at(2)), number(words.at(3)));
         })},
        {"acquire", [](Peer &peer, const Words &) {
             return peer.keep_permit(shm_sync::permit(peer.semaphore_));
         }},
        {"try_acquire", [](Peer &peer, const Words &) {
             return peer.keep_permit(shm_sync::permit(peer.semaphore_, shm_sync::try_to_lock));
         }},
        {"acquire_for", [](Peer &peer, const Words &words) {
             return peer.keep_permit(shm_sync::permit(peer.semaphore_, duration(words.at(1))));
         }},
        {"release", done([](Peer &peer, const Words &) {
             expect(peer.permits_.back()->release());
             peer.permits_.pop_back();
         })},
        {"available", [](Peer &peer, const Words &) {
             return ok(shm_sync_semaphore_available(&peer.semaphore_));
         }},
        {"set", done([](Peer &peer, const Words &words) {
             expect(shm_sync_event_set(peer.event(words.at(1))));
         })},
        {"reset", done([](Peer &peer, const Words &words) {
             shm_sync_event_reset(peer.event(words.at(1)));
         })},
        {"is_set", [](Peer &peer, const Words &words) {
             return std::string(shm_sync_event_is_set(peer.event(words.at(1))) ? "ok 1" : "ok 0");
         }},
        {"await", done([](Peer &peer, const Words &words) {
             std::uint64_t time = shm_sync::nanoseconds(duration(words.at(2)));
             expect(shm_sync_event_wait_for(peer.event(words.at(1)), time));
         })},
        {"sender", done([](Peer &peer, const Words &) { peer.open_sender(); })},
        {"receiver", done([](Peer &peer, const Words &) { peer.open_receiver(); })},
        {"close_sender", done([](Peer &peer, const Words &) { expect(peer.sender().close()); })},
        {"close_receiver", done([](Peer &peer, const Words &) { expect(peer.receiver().close()); })},
        {"send", done([](Peer &peer, const Words &words) {
             expect(peer.sender().send(static_cast<std::uint8_t>(number(words.at(1)))));
         })},
        {"try_send", done([](Peer &peer, const Words &words) {
             expect(peer.sender().try_send(static_cast<std::uint8_t>(number(words.at(1)))));
         })},
        {"send_for", done([](Peer &peer, const Words &words) {
             auto byte = static_cast<std::uint8_t>(number(words.at(1)));
             expect(peer.sender().send_for(byte, duration(words.at(2))));
         })},
        {"recv", [](Peer &peer, const Words &) {
             return peer.receive([&](auto &byte) { return peer.receiver().recv(byte); });
         }},
        {"try_recv", [](Peer &peer, const Words &) {
             return peer.receive([&](auto &byte) { return peer.receiver().try_recv(byte); });
         }},
        {"recv_for", [](Peer &peer, const Words &words) {
             return peer.receive([&](auto &byte) {
                 return peer.receiver().recv_for(byte, duration(words.at(1)));
             });
         }},
        {"flood", done([](Peer &peer, const Words &words) {
             auto byte = static_cast<std::uint8_t>(number(words.at(1)));
             for (std::uint64_t left = number(words.at(2)); left > 0; left--) {
                 expect(peer.sender().send(byte));
             }
         })},
        {"drain", [](Peer &peer, const Words &) {
             std::uint64_t count = 0;
             std::uint64_t sum = 0;
             std::uint8_t byte = 0;
             shm_sync::result received;
             while ((received = peer.receiver().recv(byte)) == SHM_SYNC_OK) {
                 count += 1;
                 sum += byte;
             }
             if (received != SHM_SYNC_DISCONNECTED) {
                 throw Refusal(received);
             }
             std::ostringstream text;
             text << "ok " << count << ' ' << sum;
             return text.str();
         }},
        {"storm", [](Peer &peer, const Words &words) { return peer.storm(number(words.at(1))); }},
    };
    return all;
}

} // namespace

int main()
{
    Peer peer;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::istringstream input(line);
        Words words;
        for (std::string word; input >> word;) {
            words.push_back(word);
        }
        std::cout << peer.execute(words) << std::endl;
    }
    return peer.close() == SHM_SYNC_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
