#include "metrics/page/live_page.hpp"

extern "C" const char warmfork_live_page_html_begin[], warmfork_live_page_html_end[];
extern "C" const char warmfork_live_page_policy_begin[], warmfork_live_page_policy_end[];

namespace warmfork::metrics {

LivePage live_page() {
  return {.html = {warmfork_live_page_html_begin, warmfork_live_page_html_end},
          .policy = {warmfork_live_page_policy_begin, warmfork_live_page_policy_end}};
}

}  // namespace warmfork::metrics
