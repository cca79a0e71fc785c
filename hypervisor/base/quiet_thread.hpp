// A thread of the library's own, which no signal to the process ends up at.
#pragma once

#include "base/result.hpp"

#include <functional>
#include <string_view>
#include <thread>

namespace warmfork {

/// Starts it. It blocks all signals from its first instruction: they are for threads that know what to do with them.
/// Errors (kHost): there is none to be had; `whose` it would have been is in the text.
[[nodiscard]] Result<std::thread> start_quiet_thread(std::string_view whose, std::function<void()> body);

}  // namespace warmfork
