// Included before every source of the C interface. It uses std::format with plain "{}" alone, which
// GCC gained in version 13; for older ones this is enough of it.
#pragma once
#ifdef __cplusplus
#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>

namespace std {
template <class... Values>
string format(string_view text, const Values&... values) {
  ostringstream out;
  auto next = [&](const auto& value) {
    const auto hole = text.find("{}");
    out << text.substr(0, hole);
    if (hole == string_view::npos) {
      text = {};
    } else {
      out << value;
      text.remove_prefix(hole + 2);
    }
  };
  (next(values), ...);
  out << text;
  return out.str();
}
} // namespace std
#endif
#endif
