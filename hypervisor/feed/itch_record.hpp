// A decoded message as an LC-3 program reads it: 16 words of 16 bits, one after the other. Freestanding: also for
// whoever writes the reader. Values of 32 bits are two words, the low one first.
//
//        ┌────────────┬──────────────────────────────────────────────────────────────────────────────┐
//   +0   │ type       │ the message's letter in ASCII ('A' = x41), or x0100: the session has ended   │
//   +1   │ locate     │ which symbol, from 1 up; 0: of none (system events)                          │
//   +2   │ side       │ 0 none │ 1 buy │ 2 sell                                                      │
//   +3   │ price      │ in ticks of 1/10,000 dollar, low                                             │
//   +4   │            │                              high                                            │
//   +5   │ shares     │ added, executed, cancelled, traded; low                                      │
//   +6   │            │                                     high                                     │
//   +7   │ reference  │ the order, low 32 bits of it, low                                            │
//   +8   │            │                               high                                           │
//   +9   │ new ref.   │ U: the order that takes its place, low                                       │
//   +10  │            │                                    high                                      │
//   +11  │ sequence   │ the message's number, low 32 bits of it, low                                 │
//   +12  │            │                                          high                                │
//   +13  │ missing    │ messages lost right before this one; xFFFF: that many, or more               │
//   +14  │ time       │ since midnight in ns, low 32 bits of it (they wrap every 4.3 s), low         │
//   +15  │            │                                                                  high        │
//        └────────────┴──────────────────────────────────────────────────────────────────────────────┘
//
// What a message does not have is 0: a program keeps its own book to know the symbol's price of an executed order.
// The event code of a system event is in +2 (ASCII). References and sequence numbers that differ only above bit 31 are
// the same here; a day's feed has fewer than 2^32 messages.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmfork::feed {

struct ItchRecord {
  std::uint16_t type;
  std::uint16_t locate;
  std::uint16_t side;
  std::uint16_t price_low, price_high;
  std::uint16_t shares_low, shares_high;
  std::uint16_t reference_low, reference_high;
  std::uint16_t new_reference_low, new_reference_high;
  std::uint16_t sequence_low, sequence_high;
  std::uint16_t missing;
  std::uint16_t time_low, time_high;

  [[nodiscard]] constexpr std::uint32_t price() const { return join(price_low, price_high); }
  [[nodiscard]] constexpr std::uint32_t shares() const { return join(shares_low, shares_high); }
  [[nodiscard]] constexpr std::uint32_t reference() const { return join(reference_low, reference_high); }
  [[nodiscard]] constexpr std::uint32_t new_reference() const { return join(new_reference_low, new_reference_high); }
  [[nodiscard]] constexpr std::uint32_t sequence() const { return join(sequence_low, sequence_high); }
  [[nodiscard]] constexpr std::uint32_t time() const { return join(time_low, time_high); }

 private:
  [[nodiscard]] static constexpr std::uint32_t join(std::uint16_t low, std::uint16_t high) {
    return static_cast<std::uint32_t>(high) << 16 | low;
  }
};

inline constexpr std::uint16_t kRecordEndOfSession = 0x0100;

static_assert(sizeof(ItchRecord) == 32 && alignof(ItchRecord) == 2);
static_assert(offsetof(ItchRecord, price_low) == 2 * 3 && offsetof(ItchRecord, shares_low) == 2 * 5);
static_assert(offsetof(ItchRecord, reference_low) == 2 * 7 && offsetof(ItchRecord, new_reference_low) == 2 * 9);
static_assert(offsetof(ItchRecord, sequence_low) == 2 * 11 && offsetof(ItchRecord, missing) == 2 * 13);
static_assert(offsetof(ItchRecord, time_high) == 2 * 15);

}  // namespace warmfork::feed
