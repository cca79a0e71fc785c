#include "lc3/debugger/debugger.hpp"

#include <algorithm>
#include <limits>
#include <set>

namespace warmfork::lc3 {
namespace {

constexpr std::uint64_t kBatch = std::uint64_t{1} << 21;  // an interrupt() waits for no more than this
constexpr std::uint64_t kFirstTrace = 64;                 // tracing begins small: most calls are short
constexpr std::uint64_t kMostTrace = 8192;
constexpr std::uint64_t kNear = 2000;  // going back leaves a checkpoint this far before where it went

std::uint16_t register_value(const Registers& registers, Name name) {
  switch (name) {
    case Name::kPc: return registers.pc;
    case Name::kPsr: return registers.psr;
    case Name::kSsp: return registers.saved_ssp;
    case Name::kUsp: return registers.saved_usp;
    case Name::kMcr: return registers.mcr;
    case Name::kN: return (registers.psr & kPsrN) != 0 ? 1 : 0;
    case Name::kZ: return (registers.psr & kPsrZ) != 0 ? 1 : 0;
    case Name::kP: return (registers.psr & kPsrP) != 0 ? 1 : 0;
    default: return registers.general[static_cast<std::size_t>(name)];
  }
}

std::uint16_t register_value(const TraceRecord& record, Name name) {
  switch (name) {
    case Name::kPsr: return record.psr;
    case Name::kSsp: return record.saved_ssp;
    case Name::kUsp: return record.saved_usp;
    default: return record.registers[static_cast<std::size_t>(name) % 8];
  }
}

std::uint8_t watch_flags(Point::Kind kind) {
  switch (kind) {
    case Point::Kind::kBreak: return kBreakExecute;
    case Point::Kind::kWrite: return kWatchWrite;
    case Point::Kind::kRead: return kWatchRead;
    case Point::Kind::kAccess: return kWatchRead | kWatchWrite;
    case Point::Kind::kRegister: return 0;
  }
  return 0;
}

std::uint64_t add_limited(std::uint64_t a, std::uint64_t b) {
  return b > std::numeric_limits<std::uint64_t>::max() - a ? std::numeric_limits<std::uint64_t>::max() : a + b;
}

}  // namespace

// --- Creation --------------------------------------------------------------------------------------------------------
Result<std::unique_ptr<Debugger>> Debugger::create(const kvm::Kvm& kvm, Program program, DebuggerOptions options) {
  std::unique_ptr<Debugger> debugger(new Debugger);
  options.machine.stop_for_output = false;
  options.most_checkpoints = std::max<std::size_t>(options.most_checkpoints, 3);
  options.checkpoint_interval = std::max<std::uint64_t>(options.checkpoint_interval, 1);
  debugger->program_ = std::move(program);
  debugger->options_ = std::move(options);
  WARMFORK_TRY_ASSIGN(debugger->vm_, Lc3Vm::create(kvm, debugger->options_.machine));
  WARMFORK_TRY(debugger->vm_->load(debugger->program_));
  WARMFORK_TRY(debugger->keep_checkpoint());
  if (!debugger->options_.input.empty()) WARMFORK_TRY(debugger->type(debugger->options_.input));
  debugger->initial_events_ = debugger->events_.size();
  return debugger;
}

// --- Events ----------------------------------------------------------------------------------------------------------
Status Debugger::type(std::string_view text) {
  if (text.empty()) return {};
  input_.resize(available_);  // what later events would have typed is gone with them
  input_ += text;
  return happen({.kind = Event::Kind::kInput, .input_end = input_.size()});
}

Status Debugger::close_input() { return happen({.kind = Event::Kind::kClose}); }

Status Debugger::set(Name name, std::uint16_t value) {
  return happen({.kind = Event::Kind::kRegister, .name = name, .value = value});
}

Status Debugger::set_memory(std::uint16_t address, std::uint16_t value) {
  return happen({.kind = Event::Kind::kMemory, .address = address, .value = value});
}

Status Debugger::happen(Event event) {
  event.position = position_;
  event.attempted = attempted_;
  events_.resize(next_event_);
  std::erase_if(checkpoints_, [&](const Checkpoint& checkpoint) {
    return checkpoint.ledger.position > position_ || checkpoint.ledger.next_event > next_event_;
  });
  events_.push_back(event);
  ++next_event_;
  return apply(event);
}

Status Debugger::apply(const Event& event) {
  attempted_ = false;
  switch (event.kind) {
    case Event::Kind::kInput: available_ = event.input_end; return top_up();
    case Event::Kind::kClose: closed_ = true; return top_up();
    case Event::Kind::kMemory: return vm_->write_memory(event.address, std::span(&event.value, 1));
    case Event::Kind::kRegister: break;
  }
  switch (event.name) {
    case Name::kN:
    case Name::kZ:
    case Name::kP: {
      WARMFORK_TRY_ASSIGN(const Registers now, vm_->registers());
      const std::uint16_t bit = event.name == Name::kN ? kPsrN : event.name == Name::kZ ? kPsrZ : kPsrP;
      return vm_->write_register(kRegisterPsr, static_cast<std::uint16_t>((now.psr & ~7) | bit));
    }
    default: return vm_->write_register(static_cast<RegisterId>(event.name), event.value);
  }
}

/// Events at the present instruction count that have not happened yet, happen. True if there were any.
Result<bool> Debugger::absorb_events() {
  const std::size_t first = next_event_;
  while (next_event_ < events_.size() && events_[next_event_].position.instructions <= position_.instructions) {
    const Event event = events_[next_event_];
    while (position_.interrupts < event.position.interrupts) WARMFORK_TRY(take_interrupt());
    if (event.attempted) {
      WARMFORK_TRY(arm(std::map<std::uint16_t, std::uint8_t>{}));
      WARMFORK_TRY_ASSIGN(const RunResult result, execute(1));
      if (result.executed != 0) return fail(ErrorKind::kGuestFault, "LC-3 guest: an instruction that waited did not");
    }
    ++next_event_;
    WARMFORK_TRY(apply(event));
  }
  return next_event_ != first;
}

/// Takes the pending interrupt and executes nothing.
Status Debugger::take_interrupt() {
  const auto before = armed_;
  const std::uint64_t interrupts = position_.interrupts;
  WARMFORK_TRY_ASSIGN(const std::uint16_t routine, memory_at(kInterruptTable + kKeyboardInterrupt));
  WARMFORK_TRY(arm({{routine, kBreakExecute}}));
  WARMFORK_TRY_ASSIGN(const RunResult result, execute(1));
  WARMFORK_TRY(arm(before));
  if (result.executed != 0 || position_.interrupts != interrupts + 1) {
    return fail(ErrorKind::kGuestFault, "LC-3 guest: an interrupt that was taken before is not taken now");
  }
  return {};
}

/// Gives the machine as much of the typed input as it has room for.
Status Debugger::top_up() {
  if (fed_ < available_) {
    // SAFETY: characters viewed as bytes, for the duration of the call.
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(input_.data());
    WARMFORK_TRY_ASSIGN(const std::size_t count, vm_->feed({bytes + fed_, available_ - fed_}));
    fed_ += count;
  }
  if (closed_ && !close_given_ && fed_ == available_) {
    WARMFORK_TRY(vm_->close_input());
    close_given_ = true;
  }
  return {};
}

Status Debugger::collect_output() {
  const std::size_t before = output_.size();
  WARMFORK_TRY(vm_->drain(output_));
  if (!silent_ && options_.on_output && output_.size() > before) {
    options_.on_output(std::string_view(output_).substr(before));
  }
  if (output_.size() > 2 * options_.most_output_bytes) {
    const std::size_t surplus = output_.size() - options_.most_output_bytes;
    output_.erase(0, surplus);
    output_begin_ += surplus;
  }
  return {};
}

Status Debugger::count_events_of_machine() {
  WARMFORK_TRY_ASSIGN(const Counters counters, vm_->counters());
  position_.interrupts = counters.interrupts;
  if (counters.input_bytes > fed_) {
    return fail(ErrorKind::kGuestFault, "LC-3 guest: {} bytes read, {} were given", counters.input_bytes, fed_);
  }
  consumed_ = counters.input_bytes;
  return {};
}

// --- Checkpoints -----------------------------------------------------------------------------------------------------
Result<Debugger::Checkpoint> Debugger::take() {
  Checkpoint checkpoint;
  checkpoint.ledger = {position_, available_, fed_, consumed_, closed_, next_event_, output_bytes()};
  WARMFORK_TRY_ASSIGN(checkpoint.state, vm_->save_state());
  return checkpoint;
}

Status Debugger::restore(const Checkpoint& checkpoint) {
  WARMFORK_TRY(vm_->restore_state(checkpoint.state));
  const Ledger& ledger = checkpoint.ledger;
  position_ = ledger.position;
  available_ = ledger.available;
  fed_ = ledger.fed;
  consumed_ = ledger.consumed;
  closed_ = ledger.closed;
  close_given_ = closed_ && fed_ == available_;
  next_event_ = ledger.next_event;
  attempted_ = false;
  if (ledger.output_bytes >= output_begin_) {
    output_.resize(std::min<std::size_t>(output_.size(), ledger.output_bytes - output_begin_));
  } else {  // older than what is kept
    output_.clear();
    output_begin_ = ledger.output_bytes;
  }
  return {};
}

std::size_t Debugger::checkpoint_before(Position position) const {
  const auto after =
      std::upper_bound(checkpoints_.begin(), checkpoints_.end(), position,
                       [](Position a, const Checkpoint& checkpoint) { return a < checkpoint.ledger.position; });
  return after == checkpoints_.begin() ? 0 : static_cast<std::size_t>(after - checkpoints_.begin()) - 1;
}

Status Debugger::keep_checkpoint() {
  if (attempted_) return {};  // not a state that running to this position gives
  WARMFORK_TRY_ASSIGN(Checkpoint checkpoint, take());
  const auto place =
      std::lower_bound(checkpoints_.begin(), checkpoints_.end(), position_,
                       [](const Checkpoint& other, Position position) { return other.ledger.position < position; });
  if (place != checkpoints_.end() && place->ledger.position == position_) return {};
  checkpoints_.insert(place, std::move(checkpoint));
  if (checkpoints_.size() > options_.most_checkpoints) thin_checkpoints();
  return {};
}

/// Drops the one that is missed least: whose gap would be smallest, compared with its distance from the present.
void Debugger::thin_checkpoints() {
  std::size_t least = 1;
  double least_cost = std::numeric_limits<double>::max();
  const auto at = [&](std::size_t i) { return static_cast<double>(checkpoints_[i].ledger.position.instructions); };
  const auto now = static_cast<double>(position_.instructions);
  for (std::size_t i = 1; i + 1 < checkpoints_.size(); ++i) {
    const double cost = (at(i + 1) - at(i - 1)) / (std::abs(now - at(i)) + 1);
    if (cost < least_cost) {
      least_cost = cost;
      least = i;
    }
  }
  checkpoints_.erase(checkpoints_.begin() + static_cast<std::ptrdiff_t>(least));
}

// --- Running ---------------------------------------------------------------------------------------------------------
Status Debugger::arm(std::map<std::uint16_t, std::uint8_t> flags) {
  if (flags == armed_) return {};
  armed_.clear();
  WARMFORK_TRY(vm_->instrument(flags.empty() ? InstrumentMode::kOff : InstrumentMode::kWatch));
  for (const auto& [address, flag] : flags) WARMFORK_TRY(vm_->watch(address, 1, flag));
  armed_ = std::move(flags);
  return {};
}

Status Debugger::arm(const Plan& plan) {
  std::map<std::uint16_t, std::uint8_t> flags;
  if (plan.use_points) {
    for (const Point& point : points_) {
      if (point.enabled && point.kind != Point::Kind::kRegister) flags[point.address] |= watch_flags(point.kind);
    }
  }
  if (plan.until) flags[*plan.until] |= kBreakExecute;
  return arm(std::move(flags));
}

/// One run of the guest, and the books brought up to date.
Result<RunResult> Debugger::execute(std::uint64_t budget) {
  WARMFORK_TRY_ASSIGN(const RunResult result, vm_->run(budget));
  position_.instructions += result.executed;
  if (options_.on_executed) options_.on_executed(result.executed);
  attempted_ = false;
  if (result.stop == StopReason::kInputNeeded || result.stop == StopReason::kInputExhausted) {
    constexpr std::uint16_t kTrapIn = 0xf023;
    WARMFORK_TRY_ASSIGN(const std::uint16_t word, memory_at(result.pc));
    attempted_ = (word & 0xf0ff) == kTrapIn;
  }
  WARMFORK_TRY(collect_output());
  WARMFORK_TRY(count_events_of_machine());
  return result;
}

/// How many instructions may run before the host has something to do.
Result<std::uint64_t> Debugger::batch_size(const Plan& plan) const {
  const std::uint64_t now = position_.instructions;
  std::uint64_t batch = std::min(kBatch, plan.limit - now);
  if (next_event_ < events_.size()) batch = std::min(batch, events_[next_event_].position.instructions - now);
  const std::uint64_t last = checkpoints_[checkpoint_before(position_)].ledger.position.instructions;
  const std::uint64_t due = last + options_.checkpoint_interval;
  batch = std::min(batch, due > now ? due - now : options_.checkpoint_interval);
  // An instruction reads at most one character: while more is to come, the ring does not run dry.
  if (fed_ < available_) batch = std::min<std::uint64_t>(batch, std::max<std::size_t>(fed_ - consumed_, 1));
  return std::max<std::uint64_t>(batch, 1);
}

Result<bool> Debugger::interrupt_pending() {
  WARMFORK_TRY_ASSIGN(const std::uint16_t kbsr, memory_at(kKbsr));
  constexpr std::uint16_t kBoth = kReady | kKbsrInterruptEnable;
  if ((kbsr & kBoth) != kBoth) return false;
  WARMFORK_TRY_ASSIGN(const Registers now, vm_->registers());
  return (now.psr & kPsrPriority) < (4 << 8);
}

/// Finds by tracing where the goal of the tracker or a change of a watched register comes, then runs exactly up to
/// there, so that break- and watchpoints in memory are seen. `reached`: the tracker's goal.
Result<RunResult> Debugger::run_traced(const Plan& plan, std::uint64_t batch, bool& reached) {
  WARMFORK_TRY_ASSIGN(const Checkpoint before, take());
  WARMFORK_TRY_ASSIGN(const Registers start, vm_->registers());
  WARMFORK_TRY_ASSIGN(const std::vector<TraceRecord> records, vm_->trace(batch));
  const auto previous_pc = [&](std::size_t i) { return i == 0 ? start.pc : records[i - 1].pc; };
  std::size_t count = 0;
  std::optional<CallTracker> ahead;
  if (plan.tracker != nullptr) ahead = *plan.tracker;
  for (bool found = false; !found && count < records.size(); ++count) {
    if (ahead && ahead->feed(records[count], previous_pc(count))) found = true;
    if (!plan.use_points) continue;
    for (const Point& point : points_) {
      if (!point.enabled || point.kind != Point::Kind::kRegister) continue;
      if (register_value(records[count], point.name) != watched_[point.number]) found = true;
    }
  }
  WARMFORK_TRY(vm_->restore_state(before.state));
  WARMFORK_TRY_ASSIGN(const RunResult result, execute(std::max<std::size_t>(count, 1)));
  if (result.executed > records.size()) {
    return fail(ErrorKind::kGuestFault, "LC-3 guest: {} instructions traced, {} run", records.size(), result.executed);
  }
  if (plan.tracker != nullptr) {
    for (std::size_t i = 0; i < result.executed; ++i) reached = plan.tracker->feed(records[i], previous_pc(i));
  }
  return result;
}

Result<Halt> Debugger::move(Plan plan) {
  WARMFORK_TRY(arm(plan));
  WARMFORK_TRY(refresh_watched());
  const bool traced = plan.tracker != nullptr ||
                      (plan.use_points && std::any_of(points_.begin(), points_.end(), [](const Point& point) {
                         return point.enabled && point.kind == Point::Kind::kRegister;
                       }));
  std::uint64_t trace_size = kFirstTrace;
  Halt halt;
  const auto stop = [&](HaltKind kind) {
    halt.kind = kind;
    if (!plan.searching) remove_temporary(halt);
    return halt;
  };
  WARMFORK_TRY_ASSIGN(const bool first_events, absorb_events());
  if (first_events) {
    WARMFORK_TRY(arm(plan));
    WARMFORK_TRY(refresh_watched());
  }
  if (plan.judge_first) {
    WARMFORK_TRY_ASSIGN(const bool hit, judge_breakpoints(plan, halt));
    if (hit) return stop(HaltKind::kPoint);
  }
  while (true) {
    if (interrupted_.exchange(false)) return stop(HaltKind::kInterrupted);
    WARMFORK_TRY(top_up());
    if (position_.instructions >= plan.limit) return stop(HaltKind::kDone);
    WARMFORK_TRY_ASSIGN(std::uint64_t batch, batch_size(plan));
    const Position began = position_;
    bool reached = false;
    RunResult result{};
    if (traced) {
      batch = std::min(batch, trace_size);
      trace_size = std::min(4 * trace_size, kMostTrace);
      WARMFORK_TRY_ASSIGN(result, run_traced(plan, batch, reached));
    } else {
      WARMFORK_TRY_ASSIGN(result, execute(batch));
    }
    const bool arrived = position_ != began;
    // Everything that may stop here is looked at, so that hits are counted and values kept up to date.
    bool hit = false;
    if (plan.use_points && arrived) {
      WARMFORK_TRY_ASSIGN(const bool register_hit, judge_registers(plan, halt));
      WARMFORK_TRY_ASSIGN(const bool watch_hit, judge_watchpoints(plan, result, halt));
      hit = register_hit || watch_hit;
    }
    const std::uint64_t interrupts = position_.interrupts;
    WARMFORK_TRY_ASSIGN(const bool events, absorb_events());
    if (events) {
      WARMFORK_TRY(arm(plan));
      WARMFORK_TRY(refresh_watched());
    }
    // Checkpoints are of states before a pending interrupt is taken: a search backwards cuts its way there.
    const std::uint64_t last = checkpoints_[checkpoint_before(position_)].ledger.position.instructions;
    if (result.stop == StopReason::kBudget && position_.interrupts == interrupts &&
        position_.instructions >= last + options_.checkpoint_interval) {
      WARMFORK_TRY(keep_checkpoint());
    }
    if (plan.use_points && arrived) {
      WARMFORK_TRY_ASSIGN(const bool break_hit, judge_breakpoints(plan, halt));
      hit = hit || break_hit;
    }
    if (hit) return stop(HaltKind::kPoint);
    if (reached) return stop(HaltKind::kDone);
    if (plan.until && arrived) {
      WARMFORK_TRY_ASSIGN(const Registers now, vm_->registers());
      if (now.pc == *plan.until) return stop(HaltKind::kDone);
    }
    if (events) continue;  // they may have mended what stopped the machine
    switch (result.stop) {
      case StopReason::kBudget:
      case StopReason::kBreakpoint:
      case StopReason::kWatchpoint:
      case StopReason::kOutputFull:
      case StopReason::kOutputPending: continue;
      case StopReason::kIdle:
        if (!plan.idle_stops || next_event_ < events_.size() || fed_ < available_) continue;
        break;
      case StopReason::kInputNeeded:
        if (fed_ < available_) continue;
        break;
      case StopReason::kInputExhausted:
        // Idle, or waiting for good? Only the former has executed something up to the end.
        if (!plan.idle_stops && arrived) continue;
        break;
      default: break;
    }
    if (position_.instructions >= plan.limit && result.stop != StopReason::kHalted) return stop(HaltKind::kDone);
    halt.reason = result.stop;
    halt.vector = result.vector;
    halt.address = result.address;
    return stop(HaltKind::kProgram);
  }
}

// --- Points ----------------------------------------------------------------------------------------------------------
int Debugger::add_point(Point point) {
  point.number = ++last_number_;
  points_.push_back(std::move(point));
  return last_number_;
}

Point* Debugger::find_point(int number) {
  for (Point& point : points_) {
    if (point.number == number) return &point;
  }
  return nullptr;
}

bool Debugger::remove_point(int number) {
  watched_.erase(number);
  return std::erase_if(points_, [number](const Point& point) { return point.number == number; }) != 0;
}

void Debugger::remove_temporary(const Halt& halt) {
  for (const PointHit& hit : halt.hits) {
    if (const Point* point = find_point(hit.number); point != nullptr && point->temporary) remove_point(hit.number);
  }
}

/// The values that changes are measured against.
Status Debugger::refresh_watched() {
  WARMFORK_TRY_ASSIGN(const Registers now, vm_->registers());
  for (const Point& point : points_) {
    if (point.kind == Point::Kind::kBreak) continue;
    if (point.kind == Point::Kind::kRegister) {
      watched_[point.number] = register_value(now, point.name);
    } else {
      WARMFORK_TRY_ASSIGN(watched_[point.number], memory_at(point.address));
    }
  }
  return {};
}

/// Condition, ignore count, hit count. True if the point stops the program.
bool Debugger::judge(const Plan& plan, Point& point, PointHit hit, Halt& halt) {
  if (plan.last && position_ > *plan.last) return false;
  if (point.condition) {
    const auto value = point.condition->evaluate(*this);
    if (!value) {
      hit.condition_error = value.error();
    } else if (*value == 0) {
      return false;
    }
  }
  if (!plan.searching) {
    ++point.hits;
    if (point.ignore > 0) {
      --point.ignore;
      return false;
    }
  }
  hit.number = point.number;
  halt.hits.push_back(std::move(hit));
  return true;
}

Result<bool> Debugger::judge_breakpoints(const Plan& plan, Halt& halt) {
  if (!plan.use_points) return false;
  std::optional<Registers> now;
  bool any = false;
  for (Point& point : points_) {
    if (!point.enabled || point.kind != Point::Kind::kBreak) continue;
    if (!now) {
      WARMFORK_TRY_ASSIGN(now, vm_->registers());
    }
    if (point.address != now->pc) continue;
    // An interrupt comes first: the breakpoint is reached when its routine returns.
    WARMFORK_TRY_ASSIGN(const bool pending, interrupt_pending());
    if (pending) return any;
    if (judge(plan, point, {}, halt)) any = true;
  }
  return any;
}

Result<bool> Debugger::judge_watchpoints(const Plan& plan, const RunResult& run, Halt& halt) {
  bool any = false;
  for (Point& point : points_) {
    if (point.kind == Point::Kind::kBreak || point.kind == Point::Kind::kRegister) continue;
    WARMFORK_TRY_ASSIGN(const std::uint16_t value, memory_at(point.address));
    const std::uint16_t before = std::exchange(watched_[point.number], value);
    const bool changed = before != value;
    const bool named = run.stop == StopReason::kWatchpoint && run.address == point.address &&
                       (run.access & watch_flags(point.kind)) != 0;
    // The guest names the first access only; others of the same instruction show by their change.
    const bool written = run.stop == StopReason::kWatchpoint && changed && run.address != point.address &&
                         point.address < kDeviceBase && (watch_flags(point.kind) & kWatchWrite) != 0;
    if (!point.enabled || (!named && !written)) continue;
    PointHit hit;
    if (changed) hit.before = before;
    hit.after = value;
    hit.access = named ? static_cast<std::uint8_t>(run.access) : std::uint8_t{kWatchWrite};
    if (judge(plan, point, hit, halt)) any = true;
  }
  return any;
}

Result<bool> Debugger::judge_registers(const Plan& plan, Halt& halt) {
  std::optional<Registers> now;
  bool any = false;
  for (Point& point : points_) {
    if (point.kind != Point::Kind::kRegister) continue;
    if (!now) {
      WARMFORK_TRY_ASSIGN(now, vm_->registers());
    }
    const std::uint16_t value = register_value(*now, point.name);
    const std::uint16_t before = std::exchange(watched_[point.number], value);
    if (!point.enabled || before == value) continue;
    PointHit hit;
    hit.before = before;
    hit.after = value;
    hit.access = kWatchWrite;
    if (judge(plan, point, hit, halt)) any = true;
  }
  return any;
}

// --- Movement --------------------------------------------------------------------------------------------------------
Result<Halt> Debugger::step(std::uint64_t count) {
  begin_movement();
  return move({.limit = add_limited(position_.instructions, count), .idle_stops = false});
}

Result<Halt> Debugger::next(std::uint64_t count) {
  begin_movement();
  Halt halt;
  for (std::uint64_t i = 0; i < count; ++i) {
    CallTracker tracker(CallTracker::Goal::kNext, options_.machine.edition == 2);
    WARMFORK_TRY_ASSIGN(halt, move({.tracker = &tracker}));
    if (halt.kind != HaltKind::kDone) break;
  }
  return halt;
}

Result<Halt> Debugger::finish() {
  begin_movement();
  CallTracker tracker(CallTracker::Goal::kFinish, options_.machine.edition == 2);
  return move({.tracker = &tracker});
}

Result<Halt> Debugger::resume(std::optional<std::uint64_t> count) {
  begin_movement();
  Plan plan;
  if (count) plan.limit = add_limited(position_.instructions, *count);
  return move(plan);
}

Result<Halt> Debugger::until(std::uint16_t address) {
  begin_movement();
  return move({.until = address});
}

Status Debugger::restart() {
  checkpoints_.resize(1);
  events_.resize(initial_events_);
  WARMFORK_TRY(restore(checkpoints_.front()));
  input_ = options_.input;
  WARMFORK_TRY(absorb_events());
  return {};
}

Result<Halt> Debugger::run() {
  begin_movement();
  WARMFORK_TRY(restart());
  return move({.judge_first = true});
}

/// Restores and replays. Without `exact_interrupts` a pending interrupt at the target is not taken, unless events there
/// came after it.
Result<Halt> Debugger::travel(Position target, bool exact_interrupts) {
  const bool was_silent = std::exchange(silent_, true);
  const auto replay = [&]() -> Result<Halt> {
    const std::size_t nearest = checkpoint_before(target);
    WARMFORK_TRY(restore(checkpoints_[nearest]));
    WARMFORK_TRY(absorb_events());
    Halt halt;
    if (target.instructions > position_.instructions + 2 * kNear) {
      WARMFORK_TRY_ASSIGN(halt, move({.limit = target.instructions - kNear, .use_points = false, .idle_stops = false}));
      if (halt.kind != HaltKind::kDone) return halt;
      WARMFORK_TRY(keep_checkpoint());
    }
    WARMFORK_TRY_ASSIGN(halt, move({.limit = target.instructions, .use_points = false, .idle_stops = false}));
    if (halt.kind != HaltKind::kDone) return halt;
    while (exact_interrupts && position_.interrupts < target.interrupts) WARMFORK_TRY(take_interrupt());
    return halt;
  };
  auto result = replay();
  silent_ = was_silent;
  return result;
}

Result<Halt> Debugger::step_back(std::uint64_t count) {
  begin_movement();
  const std::uint64_t now = position_.instructions;
  WARMFORK_TRY_ASSIGN(Halt halt, travel({now - std::min(now, count), 0}, false));
  if (halt.kind == HaltKind::kDone && count > now) halt.kind = HaltKind::kBeginning;
  return halt;
}

Result<Halt> Debugger::go_to(std::uint64_t instructions) {
  begin_movement();
  if (instructions <= position_.instructions) return travel({instructions, 0}, false);
  return move({.limit = instructions, .use_points = false, .idle_stops = false});
}

Result<Halt> Debugger::resume_back() {
  begin_movement();
  const Position origin = position_;
  const bool was_silent = std::exchange(silent_, true);
  const auto search = [&]() -> Result<Halt> {
    // From checkpoint to checkpoint: the last hit in (begin, end], where the present itself does not count.
    for (Position end = origin;;) {
      std::size_t index = checkpoint_before(end);
      if (index > 0 && checkpoints_[index].ledger.position == end) --index;
      WARMFORK_TRY(restore(checkpoints_[index]));
      WARMFORK_TRY(absorb_events());
      const Position begin = position_;
      const bool whole = index == 0;
      std::optional<std::pair<Position, Halt>> last;
      bool judge_first = whole;
      while (position_ < end) {
        WARMFORK_TRY_ASSIGN(Halt halt, move({.limit = end.instructions,
                                             .judge_first = std::exchange(judge_first, false),
                                             .idle_stops = false,
                                             .last = end,
                                             .searching = true}));
        if (halt.kind == HaltKind::kInterrupted) return halt;
        if (halt.kind != HaltKind::kPoint) break;
        if (position_ < origin) last = {position_, std::move(halt)};
      }
      if (last) {
        WARMFORK_TRY_ASSIGN(Halt halt, travel(last->first, true));
        return halt.kind == HaltKind::kDone ? last->second : halt;
      }
      if (whole) {
        WARMFORK_TRY_ASSIGN(Halt halt, travel({}, false));
        if (halt.kind == HaltKind::kDone) halt.kind = HaltKind::kBeginning;
        return halt;
      }
      end = begin;
    }
  };
  auto result = search();
  silent_ = was_silent;
  if (result && result->kind == HaltKind::kInterrupted) {
    WARMFORK_TRY(travel(origin, true));
  }
  return result;
}

Result<std::uint16_t> Debugger::value_of(Name name) {
  WARMFORK_TRY_ASSIGN(const Registers now, vm_->registers());
  return register_value(now, name);
}

Result<std::uint16_t> Debugger::memory_at(std::uint16_t address) {
  WARMFORK_TRY_ASSIGN(const auto words, vm_->read_memory(address, 1));
  return words.front();
}

}  // namespace warmfork::lc3
