#include "feed/tape.hpp"

#include <new>

namespace warmfork::feed {

Result<TapeBuilder> TapeBuilder::create(std::size_t capacity) {
  TapeBuilder builder;
  WARMFORK_TRY_ASSIGN(builder.tape_.memory_, Mapping::anonymous(capacity));
  return builder;
}

Result<std::span<std::byte>> TapeBuilder::add(std::uint64_t time_ns, std::uint32_t wire_bytes,
                                              std::uint32_t payload_bytes) {
  if (tape_.empty()) start_ns_ = time_ns;
  if (time_ns < start_ns_ || time_ns - start_ns_ < tape_.duration_ns_) {
    return fail(ErrorKind::kInput, "its time is {} ns before that of the packet before it",
                start_ns_ + tape_.duration_ns_ - time_ns);
  }
  const std::size_t footprint = Packet::footprint(payload_bytes);
  if (footprint > tape_.memory_.size() - tape_.used_) {
    return fail(ErrorKind::kLimit, "no room for its {} bytes: packets take {} bytes already, the limit is {}",
                payload_bytes, tape_.used_, tape_.memory_.size());
  }
  auto* const packet = new (tape_.memory_.data() + tape_.used_) Packet{time_ns - start_ns_, payload_bytes, wire_bytes};
  tape_.used_ += footprint;
  tape_.totals_.add(*packet);
  tape_.longest_ = std::max<std::size_t>(tape_.longest_, payload_bytes);
  tape_.duration_ns_ = packet->time_ns;
  // SAFETY: the room behind the packet, checked above.
  return std::span(reinterpret_cast<std::byte*>(packet + 1), payload_bytes);
}

}  // namespace warmfork::feed
