#include "feed_report.hpp"

#include <fmt/format.h>

#include <string>

namespace warmfork::cli {

namespace {

nlohmann::ordered_json to_json(const feed::Certificate::Lateness& times) {
  return {{"p50", times.p50_ns},   {"p90", times.p90_ns}, {"p99", times.p99_ns},
          {"p999", times.p999_ns}, {"max", times.max_ns}, {"mean", times.mean_ns}};
}

void add(nlohmann::ordered_json& entry, const feed::ProgramReport& program, std::uint64_t received) {
  entry["published"] = program.published;
  entry["instructions"] = program.instructions;
  if (received != 0) {
    entry["instructions_per_message"] = static_cast<double>(program.instructions) / static_cast<double>(received);
  }
  if (program.ns_per_message) entry["ns_per_message"] = *program.ns_per_message;
  entry["end"] = program.end;
  if (!program.failure.empty()) entry["failure"] = program.failure;
  entry["output"] = program.output;
  if (program.registers) entry["registers"] = *program.registers;
}

}  // namespace

nlohmann::ordered_json to_json(const feed::TapeTotals& totals) {
  return {{"packets", totals.packets},
          {"frame_bytes", totals.frame_bytes},
          {"payload_bytes", totals.payload_bytes},
          {"wire_bits", totals.wire_bits}};
}

nlohmann::ordered_json to_json(const feed::DecodeCounters& decoded) {
  nlohmann::ordered_json json{{"frames", decoded.frames},         {"other", decoded.other},
                              {"malformed", decoded.malformed},   {"messages", decoded.messages},
                              {"heartbeats", decoded.heartbeats}, {"ends_of_session", decoded.ends_of_session},
                              {"sessions", decoded.sessions},     {"gaps", decoded.gaps},
                              {"missing", decoded.missing},       {"duplicates", decoded.duplicates}};
  json["by_type"] = nlohmann::ordered_json::object();
  for (std::size_t type = 0; type < decoded.by_type.size(); ++type) {
    if (decoded.by_type[type] != 0) json["by_type"][std::string(1, static_cast<char>(type))] = decoded.by_type[type];
  }
  return json;
}

nlohmann::ordered_json to_json(const feed::Certificate& certificate, int code) {
  nlohmann::ordered_json json{
      {"verdict", certificate.interrupted ? "interrupted" : (certificate.passed() ? "passed" : "failed")},
      {"exit_code", code},
      {"interrupted", certificate.interrupted},
      {"failures", certificate.failures},
      {"source", certificate.source},
      {"pace", certificate.pace},
      {"sent", to_json(certificate.sent)},
      {"seconds", certificate.seconds},
      {"packets_per_second", certificate.packets_per_second},
      {"wire_gbps", certificate.wire_gbps}};
  if (certificate.wanted_packets_per_second) {
    json["wanted_packets_per_second"] = *certificate.wanted_packets_per_second;
  }
  if (certificate.lateness) {
    json["lateness_ns"] = to_json(*certificate.lateness);
  }
  if (const auto& floor = certificate.floor) {
    json["lateness_floor_ns"] = {
        {"p99", floor->p99_ns}, {"p999", floor->p999_ns}, {"max", floor->max_ns}, {"resolution", floor->resolution_ns}};
    json["waiting"] = {
        {"seconds", floor->waited_seconds}, {"stalls", floor->stalls}, {"stalled_seconds", floor->stalled_seconds}};
  }
  if (certificate.max_late_ns) {
    json["max_late_ns"] = *certificate.max_late_ns;
    json["late"] = certificate.late;
  }
  json["readers"] = nlohmann::ordered_json::array();
  for (const feed::ReaderReport& reader : certificate.readers) {
    nlohmann::ordered_json entry{{"name", reader.name}, {"received", reader.received}, {"dropped", reader.dropped}};
    if (reader.program) {
      add(entry, *reader.program, reader.received);
    } else {
      entry["bytes"] = reader.bytes;
      entry["checksum"] = fmt::format("{:016x}", reader.checksum);
    }
    json["readers"].push_back(std::move(entry));
  }
  if (certificate.answers) {
    const feed::Certificate::Answers& answers = *certificate.answers;
    json["answers"] = {
        {"count", answers.count}, {"unnamed", answers.unnamed}, {"unkept", answers.unkept}, {"file", answers.file}};
    if (answers.latency) json["answers"]["latency_ns"] = to_json(*answers.latency);
  }
  if (!certificate.notes.empty()) json["notes"] = certificate.notes;
  json["disturbances"] = {{"involuntary_switches", certificate.disturbances.involuntary_switches},
                          {"voluntary_switches", certificate.disturbances.voluntary_switches},
                          {"major_faults", certificate.disturbances.major_faults},
                          {"minor_faults", certificate.disturbances.minor_faults}};
  if (certificate.disturbances.steal_seconds) {
    json["disturbances"]["steal_seconds"] = *certificate.disturbances.steal_seconds;
  }
  json["truncated_packets"] = certificate.truncated ? 1 : 0;
  if (certificate.truncated) json["truncated"] = *certificate.truncated;
  if (certificate.decoded) {
    json["decoded"] = to_json(*certificate.decoded);
    json["decoded"]["ns_per_message"] = certificate.decode_ns_per_message;
    if (!certificate.first_malformed.empty()) json["decoded"]["first_malformed"] = certificate.first_malformed;
  }
  return json;
}

void print_json(const nlohmann::ordered_json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace warmfork::cli
