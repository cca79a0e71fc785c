#include "lc3/fleet/fleet.hpp"

#include "fork/fork.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/fleet/bus.hpp"
#include "lc3/fleet/grade.hpp"
#include "lc3/fleet/isolated_run.hpp"
#include "metrics/vm_watch.hpp"
#include "trace/trace.hpp"

#include <fmt/ranges.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace warmfork::lc3 {
namespace {

constexpr std::uint64_t kSlice = 4'000'000;  // instructions: a millisecond or two
constexpr std::size_t kDetailBytes = 300;
// How often a guest looks at a ring before its thread does: long where every machine has a CPU, and else about as long
// as leaving the guest takes, so that the CPU goes to whoever is waited for.
constexpr std::uint32_t kManyLooks = PortConnections::kDefaultLooks;
constexpr std::uint32_t kFewLooks = 256;
// For calls of a guest that take it nothing: one that does not come back from them is broken.
constexpr CallOptions kTold{.timeout_ns = 5'000'000'000};
constexpr auto kTick = std::chrono::milliseconds(50);
// How often the machines at the ends of links are asked how much they have sent, if anybody wants to know: a call.
constexpr std::uint64_t kAskAfterNs = 20'000'000;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

/// The machines of one [[machine]]. Forks go before the source, the source before the master.
struct Family {
  const MachineSpec* spec = nullptr;
  Lc3Options options;
  std::unique_ptr<Lc3Vm> master;
  std::unique_ptr<ForkSource> source;
  std::vector<GuestCpu*> cpus;  // by worker; nullptr: its forks have their own, or that worker never runs them
};

/// One machine.
struct Member {
  Family* family = nullptr;
  std::unique_ptr<Fork> fork;
  std::unique_ptr<Profile> profile = std::make_unique<Profile>();
  std::unique_ptr<Lc3Vm> machine;
  std::optional<IsolatedRun> run;
  std::unique_ptr<metrics::VmWatch> watch;  // if anybody wants metrics; it outlives the rest
  std::uint64_t asked_ns = 0;               // how much it has sent
};

std::unique_ptr<metrics::VmWatch> watch_of(const MachineSpec& spec, std::string name, const Fork& fork) {
  if (!metrics::on()) return nullptr;
  return std::make_unique<metrics::VmWatch>(
      metrics::VmWatch::Info{.vm = std::move(name),
                             .program = fmt::format("{}", fmt::join(spec.programs, " ")),
                             .kind = name_of(spec.fork),
                             .engine = kEngineNames[static_cast<std::size_t>(spec.machine.engine)],
                             .memory_bytes = fork.memory().window().size(),
                             .deadline_seconds = static_cast<double>(spec.limits.wall_ns) * 1e-9,
                             .instruction_budget = spec.limits.instructions});
}

void tell(metrics::VmWatch& watch, const IsolatedRun& run) {
  watch.instructions(run.executed());
  switch (run.end()) {
    case RunEnd::kFault:
    case RunEnd::kCrashed:
    case RunEnd::kDeadlock: watch.fault(run.message()); break;
    case RunEnd::kHalted:
    case RunEnd::kInputExhausted: watch.state(metrics::VmState::kDone); break;
    default: watch.state(metrics::VmState::kStopped); break;
  }
}

/// Machines that wait for their next slice. General workers share one, each pinned worker has its own.
struct Queue {
  std::deque<std::size_t> waiting;
  std::size_t alive = 0;  // machines that have not ended: waiting or in a slice
};

struct Worker {
  std::optional<int> cpu;  // pinned there
  Queue* queue = nullptr;
  std::optional<std::size_t> only;  // the one machine it runs: one that has links, and may sleep
  std::thread thread;
  std::mutex mutex;          // of what follows
  Guest* running = nullptr;  // to be cancelled
};

class Fleet {
 public:
  Fleet(const FleetFile& file, const FleetOptions& options) : file_(file), options_(options) {}

  Result<FleetReport> run(const kvm::Kvm& kvm) {
    std::size_t machines = 0;
    for (const MachineSpec& spec : file_.machines) machines += spec.count;
    std::vector<bool> linked(machines);
    for (const LinkSpec& link : file_.links) linked[link.from.index] = linked[link.to.index] = true;
    const auto threads = static_cast<std::size_t>(std::ranges::count(linked, true));
    WARMFORK_TRY_ASSIGN(bus_, Bus::create(file_.links, machines, threads <= usable_cpus() ? kManyLooks : kFewLooks));
    for (const LinkSpec& link : file_.links) {
      report_.links.push_back({.from = link.from, .to = link.to, .capacity = link.capacity, .violations = {}});
    }
    sent_.resize(file_.links.size());
    if (metrics::on() && !file_.links.empty()) {
      links_.emplace([this](metrics::Collector& collector) { collect(collector); });
    }
    WARMFORK_TRY(plan_workers());
    for (std::size_t i = 0; i < file_.machines.size(); ++i) WARMFORK_TRY(make_family(kvm, i));
    const std::uint64_t begin = now_ns();
    work();
    report_.ns = now_ns() - begin;
    if (error_) return Failure(*error_);
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (members_[i].run) conclude(i);  // interrupted
    }
    report_.interrupted = stopping_;
    return std::move(report_);
  }

 private:
  Status plan_workers() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    ::sched_getaffinity(0, sizeof usable, &usable);
    std::size_t unpinned = 0;
    std::size_t index = 0;
    for (const MachineSpec& spec : file_.machines) {
      std::size_t sharing = 0;  // of its replicas, those that take turns with others
      for (std::uint32_t i = 0; i < spec.count; ++i, ++index) {
        if (!bus_->linked(index)) {
          ++sharing;
          continue;
        }
        add_worker(spec.cpu, nullptr);
        workers_.back()->only = index;
      }
      if (!spec.cpu) {
        unpinned += sharing;
        continue;
      }
      const int cpu = *spec.cpu;
      if (cpu >= CPU_SETSIZE || !CPU_ISSET(static_cast<std::size_t>(cpu), &usable)) {
        return fail(ErrorKind::kInput, "{}:{}: machine: cpu = {}: not one of the {} CPUs this process may use",
                    file_.name, spec.line, cpu, CPU_COUNT(&usable));
      }
      if (sharing == 0 || pinned_.contains(cpu)) continue;
      add_worker(cpu, &pinned_[cpu]);
    }
    const unsigned threads = options_.threads == 0 ? usable_cpus() : options_.threads;
    for (std::size_t i = 0; i < std::min<std::size_t>(threads, unpinned); ++i) add_worker(std::nullopt, &general_);
    return {};
  }
  void add_worker(std::optional<int> cpu, Queue* queue) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->cpu = cpu;
    workers_.back()->queue = queue;
  }

  // Room for the links of the machines of one [[machine]]: check_links() has seen to it that all have one capacity.
  [[nodiscard]] PortRegions regions(std::size_t spec) const {
    PortRegions regions;
    for (const LinkSpec& link : file_.links) {
      for (const LinkEnd* const end : {&link.from, &link.to}) {
        if (end->spec != spec) continue;
        regions.ports = std::max(regions.ports, end->port + 1);
        regions.link_bytes = link.capacity;
      }
    }
    return regions;
  }

  Status make_family(const kvm::Kvm& kvm, std::size_t number) {
    const MachineSpec& spec = file_.machines[number];
    const auto at = [&](const Error& error) {
      return with_context(error, fmt::format("{}:{}: machine \"{}\"", file_.name, spec.line, visible(spec.name, 60)));
    };
    const auto program = load_program(spec.programs);
    if (!program) return at(program.error());
    // In its place before its first fork is made: if a later one cannot be, those there are go before what they are of.
    Family* const family = families_.emplace_back(std::make_unique<Family>()).get();
    family->spec = &spec;
    family->options = spec.machine;
    family->options.stop_for_output = false;  // nobody watches
    family->options.ports = regions(number);
    family->options.locate_samples = options_.locate_samples;
    WARMFORK_TRY_ASSIGN(family->master, Lc3Vm::create(kvm, family->options));
    if (const auto loaded = family->master->load(*program); !loaded) return at(loaded.error());
    WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, family->master->machine()));
    WARMFORK_TRY_ASSIGN(family->source, make_fork_source(kvm, std::move(snapshot), {.kind = spec.fork}, spec.count));
    Queue& queue = spec.cpu ? pinned_[*spec.cpu] : general_;
    const std::size_t first = members_.size();
    for (const auto& worker : workers_) {
      family->cpus.push_back(nullptr);
      const bool own = worker->only && *worker->only >= first && *worker->only < first + spec.count;
      if (worker->queue != &queue && !own) continue;
      WARMFORK_TRY_ASSIGN(family->cpus.back(), family->source->make_cpu());
    }
    for (std::uint32_t i = 0; i < spec.count; ++i) {
      Member member;
      member.family = family;
      if (bus_->linked(members_.size())) {
        WARMFORK_TRY(make_linked(member));
      } else {
        WARMFORK_TRY_ASSIGN(member.fork, family->source->make());
        member.machine = family->master->attach(*member.fork);
        queue.waiting.push_back(members_.size());
        ++queue.alive;
      }
      if (options_.locate_samples) member.machine->sample_into(*member.profile);
      member.run.emplace(*member.machine, family->options, spec.input.text, spec.limits);
      member.watch = watch_of(spec, replica_name(spec, i), *member.fork);
      members_.push_back(std::move(member));
      MachineResult result;
      result.name = replica_name(spec, i);
      report_.machines.push_back(std::move(result));
    }
    return {};
  }

  // A fork with its links. They are connected before the first machine runs: none can have spoilt a ring by then.
  Status make_linked(Member& member) {
    const std::size_t index = members_.size();
    Family& family = *member.family;
    const PortConnections connections = bus_->connections(index);
    WARMFORK_TRY_ASSIGN(const SharedBindings bindings, family.master->bindings(connections));
    WARMFORK_TRY_ASSIGN(member.fork, family.source->make_with(bindings));
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      if (workers_[i]->only == index && family.cpus[i] != nullptr) WARMFORK_TRY(member.fork->bind(*family.cpus[i]));
    }
    member.machine = family.master->attach(*member.fork);
    return member.machine->connect(connections);
  }

  void work() {
    std::unique_lock lock(mutex_);
    try {
      for (std::size_t i = 0; i < workers_.size(); ++i) {
        workers_[i]->thread = std::thread([this, i] { worker(i); });
        ++running_;
      }
    } catch (const std::system_error& error) {
      error_ = Error{ErrorKind::kHost, fmt::format("cannot start a thread: {}", error.what())};
      given_up_ = true;
      bus_->stop();
    }
    while (running_ != 0) {
      changed_.wait_for(lock, kTick);
      if (running_ == 0 || stopping_ || !options_.should_stop) continue;
      const FleetProgress progress{report_.machines.size(), done_, instructions_};
      lock.unlock();
      if (options_.should_stop(progress)) stop();
      lock.lock();
    }
    lock.unlock();
    for (const auto& worker : workers_) {
      if (worker->thread.joinable()) worker->thread.join();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    bus_->stop();
    for (const auto& worker : workers_) {
      const std::lock_guard lock(worker->mutex);
      if (worker->running != nullptr) worker->running->cancel();
    }
  }

  void worker(std::size_t index) {
    trace::name_thread("worker", index);
    Worker& self = *workers_[index];
    if (self.cpu) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(*self.cpu), &set);
      if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set); error != 0) {
        give_up({ErrorKind::kHost, fmt::format("cannot run on CPU {}: {}", *self.cpu, std::strerror(error))});
      }
    }
    try {
      self.only ? run_linked(index, self) : take_turns(index, self);
    } catch (const std::bad_alloc&) {
      give_up({ErrorKind::kHost, "out of memory (is there a limit? see: ulimit -v)"});
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  void take_turns(std::size_t index, Worker& self) {
    Queue& queue = *self.queue;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || given_up_ || queue.alive == 0 || !queue.waiting.empty(); });
      if (stopping_ || given_up_ || queue.alive == 0) return;
      const std::size_t next = queue.waiting.front();
      queue.waiting.pop_front();
      lock.unlock();
      const auto ended = slice(index, self, members_[next]);
      const bool interrupted = ended && *ended && members_[next].run->end() == RunEnd::kInterrupted;
      if (ended && *ended && !interrupted) conclude(next);
      if (!ended) give_up(ended.error());
      lock.lock();
      if (ended && !*ended) {
        queue.waiting.push_back(next);
        changed_.notify_one();
      } else {
        --queue.alive;
        if (queue.alive == 0) changed_.notify_all();
      }
    }
  }

  // One machine that has links, from its beginning to its end.
  void run_linked(std::size_t index, Worker& self) {
    const std::size_t number = *self.only;
    Member& member = members_[number];
    const auto ended = until_end(index, self, member, number);
    if (ended) end_links(member, number);
    bus_->ended(number);  // whatever the guest has said to that: its peers do not depend on its word
    if (!ended) {
      give_up(ended.error());
    } else if (member.run->ended() && member.run->end() != RunEnd::kInterrupted) {
      conclude(number);
    }
  }

  Status until_end(std::size_t index, Worker& self, Member& member, std::size_t number) {
    while (!stopping_ && !has_given_up()) {
      const std::uint32_t senderless = bus_->take_ended(number), unread = bus_->take_unread(number);
      if ((senderless | unread) != 0) {
        for (unsigned i = 0; i < 2 * kPortCount; ++i) {
          const unsigned port = i / 2;
          if (((i % 2 == 0 ? senderless : unread) >> port & 1) == 0) continue;
          Lc3Vm& machine = *member.machine;
          const auto told = i % 2 == 0 ? machine.end_port(port, kTold) : machine.forget_receiver(port, kTold);
          if (!told) {
            const ErrorKind kind = told.error().kind;
            if (kind != ErrorKind::kGuestFault && kind != ErrorKind::kDeadline) return told;
            member.run->end_between(RunEnd::kCrashed, told.error().message);
            return {};
          }
        }
      }
      bus_->note(number);
      WARMFORK_TRY_ASSIGN(const bool ended, slice(index, self, member));
      if (ended) break;
      if (member.watch) ask_links(member, number);
      if (!member.run->waiting()) continue;
      const auto interrupts = member.machine->port_interrupts();
      switch (bus_->wait(number, *member.run->waiting(), interrupts.value_or(0), member.run->deadline_ns())) {
        case Bus::Outcome::kRun: break;
        case Bus::Outcome::kStopped: return {};
        case Bus::Outcome::kStuck:
          member.run->end_between(RunEnd::kDeadlock,
                                  fmt::format("deadlock: it waits for {}, and whoever could change that waits as well",
                                              bus_->awaited(number)));
          return {};
      }
    }
    return {};
  }
  bool has_given_up() {
    const std::lock_guard lock(mutex_);
    return given_up_;
  }

  void ask_links(Member& member, std::size_t number) {
    const std::uint64_t now = now_ns();
    if (now - member.asked_ns < kAskAfterNs) return;
    member.asked_ns = now;
    for (std::size_t i = 0; i < file_.links.size(); ++i) {
      const LinkSpec& spec = file_.links[i];
      if (spec.from.index != number) continue;
      if (const auto says = member.machine->port_report(spec.from.port, kTold)) note_sent(i, says->sent);
    }
  }
  // The machine's own word: what it takes back does not count.
  void note_sent(std::size_t link, std::uint64_t sent) { sent_[link].set(std::max(sent_[link].value(), sent)); }

  void collect(metrics::Collector& collector) const {
    for (std::size_t i = 0; i < file_.links.size(); ++i) {
      const LinkSpec& spec = file_.links[i];
      const std::string link =
          fmt::format("{}:{}->{}:{}", spec.from.machine, spec.from.port, spec.to.machine, spec.to.port);
      collector.count(metrics::Family::kLinkMessages, {link}, sent_[i].value());
      collector.set(metrics::Family::kLinkFill, {link}, static_cast<double>(bus_->fill(i)));
    }
  }

  // Tells those who receive from a machine that it has ended, and reports what it says of its links, if it can be
  // asked: one that was stopped in the middle of its guest, or has crashed, cannot.
  void end_links(Member& member, std::size_t number) {
    for (std::size_t i = 0; i < file_.links.size(); ++i) {
      const LinkSpec& spec = file_.links[i];
      LinkResult& result = report_.links[i];  // sent and out: its sender's thread; received and in: its receiver's
      if (spec.from.index == number && member.fork->ready()) {
        (void)member.machine->finish_port(spec.from.port, kTold);
        if (const auto says = member.machine->port_report(spec.from.port, kTold)) {
          result.sent = says->sent;
          note_sent(i, says->sent);
          result.violations[0] = says->out;
        }
      }
      if (spec.to.index == number && member.fork->ready()) {
        if (const auto says = member.machine->port_report(spec.to.port, kTold)) {
          result.received = says->received;
          result.violations[1] = says->in;
        }
      }
    }
  }

  Result<bool> slice(std::size_t index, Worker& self, Member& member) {
    GuestCpu* const cpu = member.family->cpus[index];
    if (cpu != nullptr) WARMFORK_TRY(member.fork->bind(*cpu));
    {
      const std::lock_guard lock(self.mutex);
      if (stopping_) return false;  // stop() either finds the guest there and cancels it, or has been before
      self.running = member.fork.get();
    }
    const std::uint64_t before = member.run->executed();
    if (member.watch) member.watch->state(metrics::VmState::kRunning);
    auto ended = member.run->advance(kSlice);
    if (member.watch) {
      member.watch->instructions(member.run->executed());
      member.watch->state(metrics::VmState::kWaiting);
    }
    instructions_ += member.run->executed() - before;
    const std::lock_guard lock(self.mutex);
    self.running = nullptr;
    return ended;
  }

  // What a machine has come to; its fork is given back.
  void conclude(std::size_t index) {
    Member& member = members_[index];
    const MachineSpec& spec = *member.family->spec;
    const IsolatedRun& run = *member.run;
    if (member.watch) {
      if (run.ended()) {
        tell(*member.watch, run);
      } else {
        member.watch->state(metrics::VmState::kStopped);
      }
    }
    MachineResult& result = report_.machines[index];
    result.executed = run.executed();
    result.ns = run.busy_ns();
    result.output = run.output();
    result.compared = spec.output.has_value();
    if (run.ended() && run.end() != RunEnd::kInterrupted) {
      Expectation expected{std::nullopt, spec.compare, spec.end};
      if (spec.output) expected.output = spec.output->text;
      result.end = run.end();
      result.verdict = judge(run, expected);
      if (result.verdict != Verdict::kPassed) {
        result.detail = visible(run.message(), kDetailBytes);
        const std::string diff = spec.output ? short_diff(spec.output->text, run.output(), spec.compare) : "";
        if (!diff.empty()) result.detail += (result.detail.empty() ? "" : "\n") + diff;
      }
      ++done_;
    } else {
      result.detail = "interrupted";
    }
    result.profile = std::move(*member.profile);
    member.run.reset();
    member.machine.reset();
    member.fork.reset();
  }

  void give_up(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    given_up_ = true;
    bus_->stop();
    changed_.notify_all();
  }

  const FleetFile& file_;
  const FleetOptions& options_;
  std::unique_ptr<Bus> bus_;
  std::map<int, Queue> pinned_;
  Queue general_;
  std::vector<std::unique_ptr<Family>> families_;
  std::vector<Member> members_;  // before what they are made of, that is: destroyed first
  std::vector<std::unique_ptr<Worker>> workers_;
  FleetReport report_;
  std::atomic<std::size_t> done_{0};
  std::atomic<std::uint64_t> instructions_{0};
  std::mutex mutex_;  // of the queues and what follows
  std::condition_variable changed_;
  std::size_t running_ = 0;
  std::atomic<bool> stopping_{false};
  bool given_up_ = false;
  std::optional<Error> error_;
  std::deque<metrics::Cell> sent_;        // by link
  std::optional<metrics::Source> links_;  // last: it reads the others
};

}  // namespace

bool FleetReport::all_passed() const {
  return std::ranges::all_of(machines, [](const MachineResult& one) { return one.verdict == Verdict::kPassed; });
}

std::vector<std::string> violations_of(const LinkResult& link) {
  std::vector<std::string> all;
  for (const auto& [end, violation] :
       {std::pair{&link.from, &link.violations[0]}, std::pair{&link.to, &link.violations[1]}}) {
    if (!*violation) continue;
    all.push_back(fmt::format("machine {}: port {}: {}: {}, limit {}", end->machine, end->port,
                              ring::describe(violation->reason), violation->value, violation->limit));
  }
  return all;
}

Result<FleetReport> run_fleet(const kvm::Kvm& kvm, const FleetFile& fleet, const FleetOptions& options) {
  return Fleet(fleet, options).run(kvm);
}

}  // namespace warmfork::lc3
