#include "lc3/fleet/grade.hpp"

#include "base/file.hpp"
#include "fork/pool.hpp"
#include "fork/snapshot.hpp"
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/object_file.hpp"
#include "lc3/asm/text.hpp"
#include "lc3/fleet/isolated_run.hpp"
#include "trace/trace.hpp"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace warmfork::lc3 {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kErrorBytes = 2000;  // of what an assembler says; visible() makes at most four times as much
constexpr std::size_t kDetailBytes = 300;
constexpr std::size_t kTestsPerTask = 64;
constexpr auto kTick = std::chrono::milliseconds(50);

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

bool is_program(const fs::path& path) {
  const std::string extension = upper(path.extension().string());
  return extension == ".ASM" || extension == ".OBJ";
}

/// What a submission is, once it has been read: a program, or why there is none.
struct Loaded {
  std::optional<Program> program;
  Verdict verdict = Verdict::kUnreadable;
  std::string error;
};

// No symbol file beside an object file is looked for, and nothing but a regular file is opened: what lies in a
// directory of submissions was put there by those who are graded.
Loaded load_submission(const Submission& submission) {
  const auto unreadable = [](std::string_view why) {
    return Loaded{std::nullopt, Verdict::kUnreadable, visible(why, kErrorBytes, true)};
  };
  std::error_code error;
  const fs::file_status status = fs::symlink_status(submission.path, error);
  if (fs::is_symlink(status)) return unreadable(submission.path + ": a link, which a submission may not be");
  const auto bytes = read_file(submission.path, kMaxSubmissionBytes);
  if (!bytes) return unreadable(bytes.error().message);
  // SAFETY: bytes viewed as characters.
  const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  const std::string shown_name = fs::path(submission.path).filename().string();
  const bool source = upper(fs::path(submission.path).extension().string()) == ".ASM";
  Result<Program> program = source ? assemble(text, shown_name) : read_object(*bytes, shown_name);
  if (!program) return {std::nullopt, Verdict::kNotAssembled, visible(program.error().message, kErrorBytes, true)};
  // Names and lines serve no run, and take many times the memory of the words.
  program->symbols = {};
  program->lines = {};
  return {std::move(*program), Verdict::kPassed, {}};
}

/// The machines of one seed.
struct SeedMachines {
  Lc3Options options;
  std::unique_ptr<Lc3Vm> master;
  std::unique_ptr<Pool> pool;
};

/// A submission while it is being worked on: read once, by whoever comes first, dropped when the last task is done.
struct Work {
  std::once_flag once;
  std::shared_ptr<const Loaded> loaded;
  std::atomic<std::size_t> tasks_left{0};
};

class Grader {
 public:
  Grader(const TestSet& tests, std::span<const Submission> submissions, const GradeOptions& options)
      : tests_(tests), submissions_(submissions), options_(options) {
    tasks_per_submission_ = (tests.tests.size() + kTestsPerTask - 1) / kTestsPerTask;
    work_ = std::vector<Work>(submissions.size());
    for (Work& work : work_) work.tasks_left = tasks_per_submission_;
    report_.submissions.resize(submissions.size());
    for (std::size_t i = 0; i < submissions.size(); ++i) {
      report_.submissions[i].submission = submissions[i];
      report_.submissions[i].cells.resize(tests.tests.size());
    }
  }

  Result<GradeReport> run(const kvm::Kvm& kvm) {
    const std::uint64_t begin = now_ns();
    const unsigned threads = options_.threads == 0 ? usable_cpus() : options_.threads;
    for (const auto& seed : tests_.seeds) {
      WARMFORK_TRY_ASSIGN(SeedMachines machines, make_machines(kvm, seed, threads));
      machines_.push_back(std::move(machines));
    }
    const std::uint64_t runs_begin = now_ns();
    work_with(threads);
    report_.runs_ns = now_ns() - runs_begin;
    if (error_) return Failure(*error_);
    for (const SeedMachines& machines : machines_) report_.resets_failed += machines.pool->stats().replaced;
    report_.runs = runs_;
    report_.interrupted = stopping_;
    report_.ns = now_ns() - begin;
    return std::move(report_);
  }

 private:
  [[nodiscard]] Result<SeedMachines> make_machines(const kvm::Kvm& kvm, std::optional<std::uint64_t> seed,
                                                   unsigned threads) const {
    SeedMachines machines;
    machines.options = tests_.machine;
    machines.options.engine = Engine::kInterpreter;  // see SECURITY.md: nothing of a submission is compiled
    machines.options.stop_for_output = false;        // nobody watches
    machines.options.randomise = seed;
    WARMFORK_TRY_ASSIGN(machines.master, Lc3Vm::create(kvm, machines.options));
    WARMFORK_TRY_ASSIGN(auto snapshot, Snapshot::take(kvm, machines.master->machine()));
    WARMFORK_TRY_ASSIGN(
        machines.pool,
        Pool::create(kvm, std::move(snapshot),
                     {.fork = {.kind = options_.fork}, .ready = 1, .most = threads, .policy = ResetPolicy::kStrict}));
    return machines;
  }

  // Tasks are handed out in order: a submission's tests in blocks, so that one with many is shared by all threads.
  void work_with(unsigned threads) {
    const std::size_t tasks = submissions_.size() * tasks_per_submission_;
    std::vector<std::thread> workers;
    running_ = 0;
    try {
      for (unsigned i = 0; i < std::min<std::size_t>(threads, tasks); ++i) {
        {
          const std::lock_guard lock(mutex_);
          ++running_;
        }
        workers.emplace_back([this, tasks, i] {
          trace::name_thread("worker", i);
          worker(tasks);
        });
      }
    } catch (const std::system_error& error) {
      give_up({ErrorKind::kHost, fmt::format("cannot start a thread: {}", error.what())});
      const std::lock_guard lock(mutex_);
      --running_;
    }
    std::unique_lock lock(mutex_);
    while (running_ != 0) {
      done_.wait_for(lock, kTick);
      if (stopping_ || !options_.should_stop || running_ == 0) continue;
      lock.unlock();
      if (options_.should_stop(progress())) stop();
      lock.lock();
    }
    lock.unlock();
    for (std::thread& worker : workers) worker.join();
  }

  void stop() {
    stopping_ = true;
    for (const SeedMachines& machines : machines_) machines.pool->close();  // cancels what runs
  }
  // By a worker, which may hold a Lease: pools are left open, others stop after the run they are at.
  void give_up(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    given_up_ = true;
  }

  [[nodiscard]] GradeProgress progress() const {
    return {.runs = runs_,
            .all_runs = std::uint64_t{submissions_.size()} * tests_.tests.size() * tests_.seeds.size(),
            .submissions = submissions_done_};
  }

  void worker(std::size_t tasks) {
    try {
      for (;;) {
        const std::size_t task = next_++;
        if (task >= tasks || stopping_ || given_up_) break;
        if (const auto done = do_task(task / tasks_per_submission_, task % tasks_per_submission_); !done)
          give_up(done.error());
      }
    } catch (const std::bad_alloc&) {
      give_up({ErrorKind::kHost, "out of memory (is there a limit? see: ulimit -v)"});
    }
    const std::lock_guard lock(mutex_);
    --running_;
    done_.notify_all();
  }

  Status do_task(std::size_t index, std::size_t block) {
    Work& work = work_[index];
    SubmissionResult& result = report_.submissions[index];
    std::call_once(work.once, [&] {
      work.loaded = std::make_shared<const Loaded>(load_submission(submissions_[index]));
      if (!work.loaded->program) result.error = work.loaded->error;
    });
    const std::shared_ptr<const Loaded> loaded = work.loaded;
    const std::size_t begin = block * kTestsPerTask;
    const std::size_t end = std::min(begin + kTestsPerTask, tests_.tests.size());
    for (std::size_t test = begin; test < end && !stopping_ && !given_up_; ++test) {
      Cell& cell = result.cells[test];
      if (!loaded->program) {
        cell.verdict = loaded->verdict;
        continue;
      }
      WARMFORK_TRY(run_cell(*loaded->program, tests_.tests[test], cell));
    }
    if (--work.tasks_left == 0) {
      work.loaded.reset();
      ++submissions_done_;
    }
    return {};
  }

  Status run_cell(const Program& program, const TestCase& test, Cell& cell) {
    const std::uint64_t begin = now_ns();
    Verdict verdict = Verdict::kPassed;
    for (SeedMachines& machines : machines_) {
      Verdict one = Verdict::kInterrupted;
      WARMFORK_TRY(run_once(machines, program, test, one, cell, verdict == Verdict::kPassed));
      if (one == Verdict::kInterrupted) {
        // What other seeds have shown stands; what passed so far has not passed all.
        if (verdict == Verdict::kPassed) verdict = one;
        break;
      }
      ++cell.seeds_run;
      if (one == Verdict::kPassed) {
        ++cell.seeds_passed;
      } else if (verdict == Verdict::kPassed) {
        verdict = one;
      }
    }
    cell.ns = now_ns() - begin;
    cell.verdict = verdict;
    if (verdict == Verdict::kInterrupted) {
      cell.detail = "interrupted";
    } else if (verdict != Verdict::kPassed && cell.seeds_passed != 0) {
      cell.detail = fmt::format(
          "passes from {} of {} initial memories: it depends on memory or registers that it has not set\n{}",
          cell.seeds_passed, cell.seeds_run, cell.detail);
    }
    return {};
  }

  // One run on a fork nobody has used since its reset. `first`: what it says goes into the cell unless it passes.
  Status run_once(SeedMachines& machines, const Program& program, const TestCase& test, Verdict& verdict, Cell& cell,
                  bool first) {
    auto lease = machines.pool->acquire();
    if (!lease) return lease.error().kind == ErrorKind::kCancelled ? Status{} : Failure(lease.error());
    const auto vm = machines.master->attach(lease->fork());
    const auto placed = vm->place(program);
    if (!placed) {
      if (placed.error().kind != ErrorKind::kInput) return Failure(placed.error());
      verdict = Verdict::kNotAssembled;
      if (first) cell.detail = visible(placed.error().message, kErrorBytes);
      return {};
    }
    IsolatedRun run(*vm, machines.options, test.input.text, test.limits);
    while (!run.ended()) {
      WARMFORK_TRY(run.advance());
    }
    ++runs_;
    verdict = judge(run, {test.output.text, test.compare, test.end});
    if (!first) return {};
    cell.executed = run.executed();
    cell.seed = machines.options.randomise;
    if (verdict != Verdict::kPassed) cell.detail = explain(verdict, run, test);
    return {};
  }

  [[nodiscard]] static std::string explain(Verdict verdict, const IsolatedRun& run, const TestCase& test) {
    std::string text;
    switch (verdict) {
      case Verdict::kInstructionLimit: text = fmt::format("not done after {} instructions", run.executed()); break;
      case Verdict::kInputExhausted:
        text = fmt::format("asks for more input after {} instructions, and there is none", run.executed());
        break;
      case Verdict::kWrongEnd: text = "halts, but should ask for more input"; break;
      case Verdict::kOutputLimit: text = fmt::format("prints more than {} bytes", test.limits.output_bytes); break;
      case Verdict::kTimeout:
        text = fmt::format("not done after {} ms, {} instructions or more", test.limits.wall_ns / 1'000'000,
                           run.executed());
        break;
      default: text = visible(run.message(), kDetailBytes); break;
    }
    const std::string diff = short_diff(test.output.text, run.output(), test.compare);
    if (!diff.empty()) text += (text.empty() ? "" : "\n") + diff;
    return text;
  }

  const TestSet& tests_;
  std::span<const Submission> submissions_;
  const GradeOptions& options_;
  std::size_t tasks_per_submission_ = 1;
  std::vector<SeedMachines> machines_;
  std::vector<Work> work_;
  GradeReport report_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint64_t> runs_{0};
  std::atomic<std::size_t> submissions_done_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> given_up_{false};
  std::mutex mutex_;  // of what follows
  std::condition_variable done_;
  std::size_t running_ = 0;
  std::optional<Error> error_;
};

}  // namespace

bool SubmissionResult::passed() const {
  return std::ranges::all_of(cells, [](const Cell& cell) { return cell.verdict == Verdict::kPassed; });
}

bool GradeReport::all_passed() const {
  return std::ranges::all_of(submissions, [](const SubmissionResult& one) { return one.passed(); });
}

unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<unsigned>(std::max(CPU_COUNT(&set), 1));
}

Result<std::vector<Submission>> find_submissions(std::span<const std::string> paths) {
  std::vector<std::string> files;
  const auto limit = [&]() -> Status {
    if (files.size() <= kMaxSubmissions) return {};
    return fail(ErrorKind::kLimit, "more than {} submissions", kMaxSubmissions);
  };
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) return fail(ErrorKind::kInput, "{}: {}", path, error.message());
    if (!fs::is_directory(status)) {
      if (!is_program(path)) {
        return fail(ErrorKind::kInput, "{}: a submission is an .asm or .obj file, or a directory of them", path);
      }
      files.push_back(path);
      WARMFORK_TRY(limit());
      continue;
    }
    std::vector<std::string> inside;
    fs::directory_iterator entry(path, error);
    for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
      if (!is_program(entry->path())) continue;
      inside.push_back(entry->path().string());
      if (inside.size() > kMaxSubmissions) break;
    }
    if (error) return fail(ErrorKind::kInput, "{}: {}", path, error.message());
    if (inside.empty()) return fail(ErrorKind::kInput, "{}: no submissions: there is no .asm or .obj file", path);
    std::ranges::sort(inside);
    std::ranges::move(inside, std::back_inserter(files));
    WARMFORK_TRY(limit());
  }
  std::set<fs::path> seen;
  std::map<std::string, std::size_t> names;
  for (const std::string& file : files) {
    if (!seen.insert(fs::path(file).lexically_normal()).second) {
      return fail(ErrorKind::kUsage, "{}: given twice", file);
    }
    ++names[fs::path(file).filename().string()];
  }
  std::vector<Submission> submissions;
  for (const std::string& file : files) {
    const std::string name = fs::path(file).filename().string();
    submissions.push_back({names[name] == 1 ? name : file, file});
  }
  return submissions;
}

Result<GradeReport> grade(const kvm::Kvm& kvm, const TestSet& tests, std::span<const Submission> submissions,
                          const GradeOptions& options) {
  if (submissions.empty() || tests.tests.empty() || tests.seeds.empty()) {
    return fail(ErrorKind::kUsage, "{} submissions, {} tests, {} seeds: nothing to grade", submissions.size(),
                tests.tests.size(), tests.seeds.size());
  }
  if (submissions.size() > kMaxCells / tests.tests.size()) {
    return fail(ErrorKind::kLimit, "{} submissions with {} tests each: more than {} results", submissions.size(),
                tests.tests.size(), kMaxCells);
  }
  return Grader(tests, submissions, options).run(kvm);
}

}  // namespace warmfork::lc3
