// warmfork doctor: what this machine's KVM really does, and what its raw operations cost.
#include "bench/figure_text.hpp"
#include "bench/suites.hpp"
#include "console.hpp"
#include "exit_codes.hpp"
#include "machine/backend_probe.hpp"
#include "verbs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

namespace warmfork::cli {
namespace {

const char* backend_meaning(const std::string& name) {
  if (name == "pvm") return "para-virtual KVM without hardware virtualisation (kvm-pvm)";
  if (name == "svm") return "AMD SVM";
  return "Intel VMX";
}

void print_text(const BackendInfo& info, const std::vector<bench::Figure>& floors) {
  const auto line = [](const char* what, const std::string& value) { fmt::print("  {:<28} {}\n", what, value); };
  fmt::print("KVM\n");
  line("backend", fmt::format("{}: {}", info.name, backend_meaning(info.name)));
  line("processor", info.cpu);
  line("SYSCALL", info.syscall_enters_cpl0 ? "enters CPL 0" : "stays at CPL 3");
  line("code at CPL 0", fmt::format("{} ({:.3g} ns per instruction)", info.cpl0_is_native ? "native" : "emulated",
                                    info.cpl0_instruction_ns));
  line("RIP at a port exit", info.exit_rip_is_after_out ? "after the OUT" : "at the OUT");
  line("dirty ring", info.dirty_ring_bytes == 0 ? "none" : fmt::format("{} KiB", info.dirty_ring_bytes >> 10));
  line("XSAVE area", fmt::format("{} bytes, guest XCR0 {:#x}", info.xsave_bytes, info.guest_xcr0));
  line("memory slots, vCPUs", fmt::format("{}, {}", info.memory_slots, info.vcpus));
  line("physical address bits", fmt::format("{}", info.physical_bits));
  line("capabilities", fmt::format("{}", fmt::join(info.capabilities, " ")));
  line("not there", info.missing.empty() ? "-" : fmt::format("{}", fmt::join(info.missing, " ")));
  fmt::print("\nRaw floors (p50, p99)\n");
  for (const bench::Figure& floor : floors) {
    line(floor.name.c_str(),
         fmt::format("{}, {}", bench::format_value(floor.p50, floor.unit), bench::format_value(floor.p99, floor.unit)));
  }
}

void print_json(const BackendInfo& info, const std::vector<bench::Figure>& floors) {
  nlohmann::ordered_json json{{"backend", info.name},
                              {"cpu", info.cpu},
                              {"syscall_enters_cpl0", info.syscall_enters_cpl0},
                              {"cpl0_is_native", info.cpl0_is_native},
                              {"cpl0_instruction_ns", info.cpl0_instruction_ns},
                              {"exit_rip_is_after_out", info.exit_rip_is_after_out},
                              {"dirty_ring_bytes", info.dirty_ring_bytes},
                              {"xsave_bytes", info.xsave_bytes},
                              {"guest_xcr0", info.guest_xcr0},
                              {"memory_slots", info.memory_slots},
                              {"vcpus", info.vcpus},
                              {"physical_bits", info.physical_bits},
                              {"capabilities", info.capabilities},
                              {"missing", info.missing}};
  for (const bench::Figure& floor : floors) json["floors"][floor.name] = {{"p50_ns", floor.p50}, {"p99_ns", floor.p99}};
  fmt::print("{}\n", json.dump(2));
}

int run(bool json) {
  const auto kvm = open_kvm();
  if (!kvm) return report(kvm.error());
  const auto info = probe_backend(*kvm);
  if (!info) return report(info.error());
  const auto floors =
      bench::run_floors({.kvm = &*kvm, .effort = 0.05, .cpu = choose_cpus().first, .other_cpu = choose_cpus().second});
  if (!floors) return report(floors.error());
  json ? print_json(*info, *floors) : print_text(*info, *floors);
  return kSuccess;
}

}  // namespace

void add_doctor(CLI::App& app, Outcome& outcome) {
  auto json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "Show what this machine's KVM does and costs");
  verb->footer(
      "Runs a few instructions in a tiny guest to see how this KVM behaves, and measures its raw operations.\n"
      "Start here when something is slow or does not run.");
  verb->add_flag("--json", *json, "For machines");
  verb->callback([json, &outcome] { outcome.code = run(*json); });
}

}  // namespace warmfork::cli
