#include "lc3/feed/feed_readers.hpp"

#include "base/tsc_clock.hpp"
#include "fork/snapshot.hpp"
#include "warmfork/lc3/ports.hpp"

#include <algorithm>
#include <thread>
#include <utility>

namespace warmfork::lc3 {
namespace {

constexpr int kTimedRehearsals = 5;
constexpr double kLongRehearsalNs = 20e6;
constexpr std::uint64_t kHurriedGraceNs = 500'000'000;

// What is given up of a ring ahead of what is written.
std::uint64_t announced_ahead(std::uint64_t capacity) { return std::min<std::uint64_t>(4096, capacity / 16); }

}  // namespace

/// Readers of one program. Their master has it in memory: compiled code is shared by forks, and made only of words that
/// are as in the master.
struct FeedReaders::Family {
  const Program* program = nullptr;  // while the object is made
  std::unique_ptr<Lc3Vm> master;
  std::unique_ptr<ForkSource> source;
};

Result<std::unique_ptr<FeedReaders>> FeedReaders::start(const kvm::Kvm& kvm, std::span<const Program> programs,
                                                        const feed::Tape& tape, const FeedReaderOptions& options) {
  if (programs.empty()) return fail(ErrorKind::kUsage, "a feed without a program that reads it");
  const std::size_t longest = options.record_bytes != 0 ? options.record_bytes : tape.longest();
  if (options.feed_bytes / 4 < ring::BroadcastHeader::record(static_cast<std::uint32_t>(longest))) {
    return fail(ErrorKind::kUsage, "a ring of {} bytes for messages of {}: it must hold four of them",
                options.feed_bytes, longest);
  }
  std::unique_ptr<FeedReaders> self(new FeedReaders);
  self->options_ = options;
  self->alone_ = programs.size() <= options.cpus.size();
  self->machine_ = FeedReader::machine_options(options.engine, options.feed_bytes);
  WARMFORK_TRY_ASSIGN(self->feed_, Feed::create(options.feed_bytes));
  self->restart_ring();
  for (const Program& program : programs) WARMFORK_TRY(self->add_family(kvm, programs, program));
  for (std::size_t i = 0; i < programs.size(); ++i) WARMFORK_TRY(self->make_reader(programs[i], i));
  if (options.warm_up && !tape.empty()) WARMFORK_TRY(self->warm_up(tape));
  if (options.answers) {
    self->answers_.open(options.answer_bytes);
    for (const auto& reader : self->readers_) reader->open_answers();
  }
  self->restart_ring();
  self->messages_.set(0);
  if (metrics::on()) {
    for (const auto& reader : self->readers_) reader->watch(options.fork);
  }
  for (const auto& reader : self->readers_) WARMFORK_TRY(reader->start(self->stop_));
  if (metrics::on()) {
    self->numbers_.emplace([owner = self.get()](metrics::Collector& collector) { owner->collect(collector); });
  }
  for (const auto& reader : self->readers_) WARMFORK_TRY(reader->wait_until_started());
  return self;
}

FeedReaders::~FeedReaders() {
  stop_readers();
  numbers_.reset();
}

FeedReaders::Family* FeedReaders::family_of(const Program& program) const {
  const auto found = std::ranges::find_if(
      families_, [&](const auto& family) { return family->program->segments == program.segments; });
  return found == families_.end() ? nullptr : found->get();
}

Status FeedReaders::add_family(const kvm::Kvm& kvm, std::span<const Program> programs, const Program& program) {
  if (family_of(program) != nullptr) return {};
  auto family = std::make_unique<Family>();
  family->program = &program;
  WARMFORK_TRY_ASSIGN(family->master, Lc3Vm::create(kvm, machine_));
  WARMFORK_TRY(family->master->load(program));
  WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, family->master->machine()));
  const auto members =
      std::ranges::count_if(programs, [&](const Program& other) { return other.segments == program.segments; });
  // One more than readers: a rehearsal that does not end costs its fork.
  WARMFORK_TRY_ASSIGN(family->source, make_fork_source(kvm, std::move(snapshot), {.kind = options_.fork},
                                                       static_cast<std::size_t>(members) + 1));
  families_.push_back(std::move(family));
  return {};
}

Status FeedReaders::make_reader(const Program& program, std::size_t number) {
  const Family& family = *family_of(program);
  const int cpu = options_.cpus.empty() ? -1 : options_.cpus[number % options_.cpus.size()];
  WARMFORK_TRY_ASSIGN(auto reader, FeedReader::make(*family.master, *family.source, program,
                                                    {.number = number,
                                                     .cpu = cpu,
                                                     .alone = alone_,
                                                     .answers = options_.answers,
                                                     .machine = machine_,
                                                     .feed = feed_}));
  readers_.push_back(std::move(reader));
  return {};
}

void FeedReaders::restart_ring() {
  ring::format_broadcast(feed_->page(), feed_->capacity());
  writer_.emplace(feed_->page(), feed_->capacity());
  writer_->announce_ahead(announced_ahead(feed_->capacity()));
  ended_ = 0;
}

Status FeedReaders::warm_up(const feed::Tape& tape) {
  // As much as the ring holds without overwriting anything, and the end.
  const auto footprint = [](std::uint64_t bytes) {
    return ring::BroadcastHeader::record(static_cast<std::uint32_t>(bytes));
  };
  const std::uint64_t longest = options_.record_bytes != 0 ? options_.record_bytes : tape.longest();
  const std::uint64_t room = feed_->capacity() - announced_ahead(feed_->capacity()) - 2 * footprint(longest);
  std::uint64_t used = 0, packets = 0;
  for (auto packet = tape.begin(); packets < tape.totals().packets || published() != 0; ++packets) {
    used += (packet->bytes + longest - 1) / longest * footprint(options_.record_bytes != 0 ? longest : packet->bytes);
    if (used > room) break;
    publish(packet->payload(), 0);
    if (++packet == tape.end()) packet = tape.begin();
  }
  const std::uint64_t messages = published();
  if (messages == 0) return {};
  (void)writer_->push({}, kEndOfStream);
  for (std::size_t i = 0; i < readers_.size() && !options_.hurry(); ++i) {
    WARMFORK_TRY_ASSIGN(const bool ends, rehearse(i, messages, false));
    if (!ends) continue;
    if (options_.engine == Engine::kOrc || options_.engine == Engine::kAuto) readers_[i]->finish_optimising();
    // The least of some, for all that is short enough for the host's scheduler to matter.
    for (int again = 0; again < kTimedRehearsals; ++again) {
      const std::uint64_t begin = tsc_now();
      WARMFORK_TRY_ASSIGN(const bool ended, rehearse(i, messages, true));
      if (!ended || tsc_to_ns(tsc_now() - begin) > kLongRehearsalNs) break;
    }
  }
  return {};
}

Result<bool> FeedReaders::rehearse(std::size_t number, std::uint64_t messages, bool timed) {
  FeedReader& reader = *readers_[number];
  WARMFORK_TRY_ASSIGN(const FeedReader::Rehearsal how, reader.rehearse(messages, timed, options_.hurry));
  if (how != FeedReader::Rehearsal::kSpoiled) return how == FeedReader::Rehearsal::kEnded;
  // The replay shall find that out and not this.
  WARMFORK_TRY(make_reader(reader.program(), number));
  std::swap(readers_[number], readers_.back());
  readers_.pop_back();
  return false;
}

void FeedReaders::put_message(std::span<const std::byte> message, std::uint64_t timestamp) noexcept {
  answers_.due(writer_->sequence(), timestamp);
  if (writer_->put(message)) return;
  writer_->publish();  // half of the ring is not
  (void)writer_->put(message);
}

void FeedReaders::put(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
  if (options_.record_bytes == 0) {
    if (!payload.empty()) put_message(payload, timestamp);
    return;
  }
  for (std::size_t at = 0; at < payload.size(); at += options_.record_bytes) {
    put_message(payload.subspan(at, std::min<std::size_t>(options_.record_bytes, payload.size() - at)), timestamp);
  }
}

void FeedReaders::flush() noexcept {
  writer_->publish();
  messages_.set(published());
  if (answers_.wanted()) idle();
}

void FeedReaders::publish(std::span<const std::byte> payload, std::uint64_t timestamp) noexcept {
  put(payload, timestamp);
  flush();
}

void FeedReaders::idle() noexcept {
  if (!answers_.wanted()) return;
  const std::uint64_t messages = published();
  for (const auto& reader : readers_) (void)answers_.take(*reader->answers(), reader->number(), messages);
}

void FeedReaders::collect(metrics::Collector& collector) {
  for (const auto& reader : readers_) reader->collect(collector, messages_);
}

bool FeedReaders::ended(std::size_t reader) const { return readers_[reader]->done(); }

jit::CacheCounters FeedReaders::code_counters(std::size_t reader) const { return readers_[reader]->code_counters(); }

SharedMemory& FeedReaders::cursor_page(std::size_t reader) const { return readers_[reader]->cursor_page(); }

void FeedReaders::stop_readers() {
  stop_.store(true);
  for (const auto& reader : readers_) reader->join();
}

const std::vector<feed::ReaderReport>& FeedReaders::finish(const std::function<bool()>& hurry) {
  if (finished_) return reports_;
  finished_ = true;
  (void)writer_->push({}, kEndOfStream);
  ended_ = 1;
  const std::uint64_t begin = tsc_now();
  const auto all_done = [&] {
    return std::ranges::all_of(readers_, [](const auto& reader) { return reader->done(); });
  };
  const auto grace_ns = [&] {
    return static_cast<double>(hurry() ? std::min(options_.grace_ns, kHurriedGraceNs) : options_.grace_ns);
  };
  while (!all_done() && tsc_to_ns(tsc_now() - begin) < grace_ns()) {
    idle();
    std::this_thread::yield();
  }
  stop_readers();
  for (const auto& reader : readers_) {
    if (auto& link = reader->answers()) answers_.take_rest(*link, reader->number(), published());
    reports_.push_back(reader->report(published()));
  }
  return reports_;
}

}  // namespace warmfork::lc3
