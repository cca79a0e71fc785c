// Every program of the manifest on the reference machine, in every way the manifest lists.
#include "lc3/asm/assembler.hpp"
#include "lc3/asm/listing.hpp"
#include "lc3/asm/load_program.hpp"
#include "lc3/os/os_image.hpp"
#include "lc3_programs/manifest.hpp"
#include "reference/reference_machine.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace warmfork {
namespace {

using lc3_programs::Case;
using lc3_reference::ReferenceMachine;

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    auto loaded = lc3_programs::load_manifest(WARMFORK_LC3_PROGRAMS);
    if (!loaded) {
      ADD_FAILURE() << loaded.error().message;
      return std::vector<Case>{};
    }
    return *std::move(loaded);
  }();
  return cases;
}

ReferenceMachine machine_for(const Case& one) {
  ReferenceMachine machine(
      {.edition = one.edition == 2 ? lc3_reference::Edition::kSecond : lc3_reference::Edition::kThird,
       .privilege = one.strict_privilege ? lc3_reference::Privilege::kStrict : lc3_reference::Privilege::kRelaxed,
       .traps = one.native_traps ? lc3_reference::Traps::kNative : lc3_reference::Traps::kOs});
  if (one.load_os) {
    for (const auto& segment :
         lc3::os_image(one.edition == 2 ? lc3::Edition::kSecond : lc3::Edition::kThird).segments) {
      machine.load_os(segment.origin, segment.words);
    }
  }
  return machine;
}

TEST(Lc3Programs, TheManifestIsReadAndLong) { EXPECT_GE(all_cases().size(), 60U); }

TEST(Lc3Programs, DisplayWhatIsExpectedAndHalt) {
  for (const Case& one : all_cases()) {
    SCOPED_TRACE(one.name);
    const auto program = lc3::load_program(one.files);
    ASSERT_TRUE(program) << program.error().message;
    ReferenceMachine machine = machine_for(one);
    for (const auto& segment : program->segments) machine.load(segment.origin, segment.words);
    machine.start(program->entry(), one.supervisor_start);
    machine.type(one.input);
    const auto state = machine.run(one.instruction_limit);
    EXPECT_EQ(state, lc3_reference::State::kHalted)
        << "at x" << std::hex << machine.pc() << " after " << std::dec << machine.instructions() << " instructions";
    EXPECT_EQ(machine.take_output(), one.expected);
  }
}

TEST(Lc3Programs, SurviveTheDisassembler) {
  for (const Case& one : all_cases()) {
    SCOPED_TRACE(one.name);
    const auto program = lc3::load_program(one.files);
    ASSERT_TRUE(program) << program.error().message;
    const auto again = lc3::assemble(lc3::disassemble(*program), "listing.asm");
    ASSERT_TRUE(again) << again.error().message;
    ASSERT_EQ(again->segments.size(), program->segments.size());
    for (std::size_t i = 0; i < again->segments.size(); ++i) {
      EXPECT_EQ(again->segments[i].origin, program->segments[i].origin);
      EXPECT_EQ(again->segments[i].words, program->segments[i].words);
    }
  }
}

}  // namespace
}  // namespace warmfork
