#include "lc3_programs/manifest.hpp"

#include "base/file.hpp"

#include <nlohmann/json.hpp>
#include <utility>

namespace warmfork::lc3_programs {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;

Result<std::string> read_text(const std::string& path) {
  WARMFORK_TRY_ASSIGN(const auto bytes, read_file(path, kMaxFileBytes));
  // SAFETY: bytes viewed as characters, for the lifetime of the vector.
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

Result<std::vector<Case>> load_manifest(const std::string& folder) {
  const std::string path = folder + "/programs.json";
  WARMFORK_TRY_ASSIGN(const std::string text, read_text(path));
  std::vector<Case> cases;
  try {
    const auto manifest = nlohmann::json::parse(text);
    for (const auto& program : manifest.at("programs")) {
      Case base;
      const auto name = program.at("name").get<std::string>();
      for (const auto& file : program.at("files")) base.files.push_back(folder + "/" + file.get<std::string>());
      WARMFORK_TRY_ASSIGN(base.expected, read_text(folder + "/" + program.at("expected").get<std::string>()));
      if (program.contains("input")) {
        WARMFORK_TRY_ASSIGN(base.input, read_text(folder + "/" + program.at("input").get<std::string>()));
      }
      base.supervisor_start = program.value("start", "user") == "supervisor";
      base.load_os = program.value("os", true);
      base.instruction_limit = program.at("instruction_limit").get<std::uint64_t>();
      for (const int edition : program.at("editions")) {
        for (const std::string traps : program.at("traps")) {
          for (const std::string privilege : program.at("privilege")) {
            Case one = base;
            one.name = fmt::format("{} edition {}, {} traps, {}", name, edition, traps, privilege);
            one.edition = edition;
            one.native_traps = traps == "native";
            one.strict_privilege = privilege == "strict";
            cases.push_back(std::move(one));
          }
        }
      }
    }
  } catch (const nlohmann::json::exception& error) {  // the only exceptions here; none leaves this function
    return fail(ErrorKind::kInput, "{}: {}", path, error.what());
  }
  return cases;
}

}  // namespace warmfork::lc3_programs
