#include "bus/link.hpp"

namespace warmfork {
namespace {

Status check_capacity(const char* what, std::uint64_t capacity) {
  if (ring::valid_capacity(capacity) && ring::spsc_producer_part_bytes(capacity) <= kMaxSharedBytes) return {};
  return fail(ErrorKind::kUsage, "{} of {} bytes: a power of two from {} up, below {}", what, capacity,
              ring::kLeastCapacity, kMaxSharedBytes);
}

// SAFETY: the parts are whole pages, and hold what format_spsc() and format_broadcast() put there.
template <class Page>
Page* page_of(const SharedMemory& memory) {
  return reinterpret_cast<Page*>(memory.bytes().data());
}

}  // namespace

Result<std::shared_ptr<Link>> Link::create(std::uint64_t capacity) {
  WARMFORK_TRY(check_capacity("a link", capacity));
  const std::shared_ptr<Link> link(new Link);
  link->capacity_ = capacity;
  WARMFORK_TRY_ASSIGN(link->producer_part_, SharedMemory::create(ring::spsc_producer_part_bytes(capacity), true));
  WARMFORK_TRY_ASSIGN(link->consumer_part_, SharedMemory::create(ring::kPageBytes, true));
  WARMFORK_TRY_ASSIGN(link->receiver_bell_, Doorbell::create());
  WARMFORK_TRY_ASSIGN(link->sender_bell_, Doorbell::create());
  ring::format_spsc(*page_of<ring::SpscProducerPage>(*link->producer_part_),
                    *page_of<ring::SpscConsumerPage>(*link->consumer_part_), capacity);
  return link;
}

ring::SpscProducerView Link::producer_view() const {
  return {page_of<ring::SpscProducerPage>(*producer_part_), page_of<ring::SpscConsumerPage>(*consumer_part_),
          capacity_};
}

ring::SpscConsumerView Link::consumer_view() const {
  return {page_of<ring::SpscConsumerPage>(*consumer_part_), page_of<ring::SpscProducerPage>(*producer_part_),
          capacity_};
}

Result<std::shared_ptr<Feed>> Feed::create(std::uint64_t capacity) {
  WARMFORK_TRY(check_capacity("a feed", capacity));
  const std::shared_ptr<Feed> feed(new Feed);
  feed->capacity_ = capacity;
  WARMFORK_TRY_ASSIGN(feed->memory_, SharedMemory::create(ring::broadcast_part_bytes(capacity), true));
  ring::format_broadcast(feed->page(), capacity);
  return feed;
}

ring::BroadcastPage& Feed::page() const { return *page_of<ring::BroadcastPage>(*memory_); }

}  // namespace warmfork
