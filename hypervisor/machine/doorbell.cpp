#include "machine/doorbell.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <ctime>

namespace warmfork {

Result<std::shared_ptr<Doorbell>> Doorbell::create() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return fail_errno("eventfd");
  return std::shared_ptr<Doorbell>(new Doorbell(std::move(fd)));
}

void Doorbell::ring() const {
  // EAGAIN: it has rung 2^64 - 2 times, and still does.
  (void)::eventfd_write(fd_.get(), 1);
}

bool Doorbell::wait(std::uint64_t timeout_ns) const {
  pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  const timespec timeout{.tv_sec = static_cast<time_t>(timeout_ns / 1'000'000'000),
                         .tv_nsec = static_cast<long>(timeout_ns % 1'000'000'000)};
  if (::ppoll(&waiting, 1, &timeout, nullptr) != 1) return false;
  eventfd_t count = 0;
  return ::eventfd_read(fd_.get(), &count) == 0;
}

}  // namespace warmfork
