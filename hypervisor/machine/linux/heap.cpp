#include "machine/linux/heap.hpp"

#include <algorithm>
#include <iterator>

namespace warmfork::linux_abi {

Heap::Heap(AddressRange range) : range_(range), break_(range.begin.value) {}

std::optional<Heap> Heap::rebuild(AddressRange range, std::uint64_t break_end,
                                  const std::map<std::uint64_t, std::uint64_t>& mappings) {
  const std::uint64_t end = range.end().value;
  if (break_end < range.begin.value || break_end > end) return std::nullopt;
  Heap heap(range);
  heap.break_ = break_end;
  std::uint64_t lowest = page_ceil(break_end);  // where the next mapping may begin
  for (const auto& [mapping_begin, mapping_end] : mappings) {
    if (mapping_begin % kPage != 0 || mapping_end % kPage != 0 || mapping_begin < lowest ||
        mapping_end <= mapping_begin || mapping_end > end) {
      return std::nullopt;
    }
    heap.mapped_ += mapping_end - mapping_begin;
    lowest = mapping_end + kPage;
  }
  heap.mappings_ = mappings;
  return heap;
}

std::uint64_t Heap::brk(std::uint64_t wanted) {
  const std::uint64_t lowest_mapping = mappings_.empty() ? range_.end().value : mappings_.begin()->first;
  if (wanted < range_.begin.value || wanted > lowest_mapping) return break_;
  const std::uint64_t new_end = page_ceil(wanted);
  const std::uint64_t old_end = page_ceil(break_);
  if (new_end > old_end && new_end - range_.begin.value + mapped_ > limit_) return break_;
  changed_ = true;
  if (new_end < old_end) freed_.push_back({Gva{new_end}, old_end - new_end});
  break_ = wanted;
  return break_;
}

std::optional<std::uint64_t> Heap::map(std::uint64_t size, std::uint64_t hint, bool fixed) {
  const std::uint64_t bottom = page_ceil(break_);
  const std::uint64_t top = range_.end().value;
  if (size == 0 || size > top - bottom || used() > limit_ || size > limit_ - used()) return std::nullopt;
  if (hint % kPage == 0 && hint >= bottom && hint <= top - size) {
    const auto next = mappings_.lower_bound(hint);
    const bool free_after = next == mappings_.end() || next->first >= hint + size;
    const bool free_before = next == mappings_.begin() || std::prev(next)->second <= hint;
    if (fixed) remove(hint, hint + size);
    if (fixed || (free_after && free_before)) {
      insert(hint, hint + size);
      return hint;
    }
  }
  if (fixed) return std::nullopt;
  // The highest gap that is large enough: from the top down between the mappings.
  std::uint64_t gap_end = top;
  for (auto it = mappings_.rbegin(); it != mappings_.rend(); ++it) {
    if (gap_end - it->second >= size) break;
    gap_end = it->first;
  }
  if (gap_end < bottom || gap_end - bottom < size) return std::nullopt;
  insert(gap_end - size, gap_end);
  return gap_end - size;
}

bool Heap::unmap(std::uint64_t address, std::uint64_t size) {
  if (size == 0 || address < page_ceil(break_) || size > range_.end().value || address > range_.end().value - size)
    return false;
  remove(address, address + size);
  return true;
}

bool Heap::covers(std::uint64_t address, std::uint64_t size) const {
  const std::uint64_t end = address + size;
  if (end < address) return false;
  if (address >= range_.begin.value && address < page_ceil(break_)) address = page_ceil(break_);
  while (address < end) {
    const auto after = mappings_.upper_bound(address);
    if (after == mappings_.begin() || std::prev(after)->second <= address) return false;
    address = std::prev(after)->second;
  }
  return true;
}

bool Heap::overlaps(std::uint64_t address, std::uint64_t size) const {
  if (address < range_.begin.value) {
    const std::uint64_t below = range_.begin.value - address;
    if (size <= below) return false;
    address = range_.begin.value;
    size -= below;
  }
  const std::uint64_t end = address + std::min(size, ~address);
  if (address < page_ceil(break_) && address < end) return true;
  const auto next = mappings_.lower_bound(end);
  return address < end && next != mappings_.begin() && std::prev(next)->second > address;
}

void Heap::restore(const Heap& other) {
  if (!changed_) return;
  break_ = other.break_;
  mappings_ = other.mappings_;
  mapped_ = other.mapped_;
  freed_.clear();
  changed_ = false;
}

std::vector<AddressRange> Heap::take_freed() { return std::exchange(freed_, {}); }

void Heap::remove(std::uint64_t begin, std::uint64_t end) {
  auto it = mappings_.upper_bound(begin);
  if (it != mappings_.begin() && std::prev(it)->second > begin) --it;
  while (it != mappings_.end() && it->first < end) {
    const auto [mapping_begin, mapping_end] = *it;
    it = mappings_.erase(it);
    const std::uint64_t cut_begin = std::max(mapping_begin, begin);
    const std::uint64_t cut_end = std::min(mapping_end, end);
    freed_.push_back({Gva{cut_begin}, cut_end - cut_begin});
    mapped_ -= cut_end - cut_begin;
    changed_ = true;
    if (mapping_begin < cut_begin) mappings_.emplace(mapping_begin, cut_begin);
    if (cut_end < mapping_end) it = mappings_.emplace(cut_end, mapping_end).first;
  }
}

void Heap::insert(std::uint64_t begin, std::uint64_t end) {
  mapped_ += end - begin;
  changed_ = true;
  // Neighbours are joined, so that the map stays as small as the number of gaps.
  auto next = mappings_.lower_bound(begin);
  if (next != mappings_.end() && next->first == end) {
    end = next->second;
    next = mappings_.erase(next);
  }
  if (next != mappings_.begin() && std::prev(next)->second == begin) {
    std::prev(next)->second = end;
  } else {
    mappings_.emplace(begin, end);
  }
}

}  // namespace warmfork::linux_abi
