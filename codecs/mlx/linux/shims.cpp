// What mlx-rs calls and the C interface has on Apple's machines alone.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>

#include "mlx/c/mlx.h"
#include "mlx/c/private/mlx.h"
#include "mlx/mlx.h"

namespace {

// The 16-bit types cross the interface as their bits.
template <class Half>
int item(uint16_t* out, mlx_array array) {
  try {
    const Half value = mlx_array_get_(array).template item<Half>();
    static_assert(sizeof value == sizeof *out);
    std::memcpy(out, &value, sizeof value);
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

template <class Half>
const uint16_t* data(mlx_array array) {
  try {
    return reinterpret_cast<const uint16_t*>(mlx_array_get_(array).template data<Half>());
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

} // namespace

extern "C" {

int mlx_array_item_float16(uint16_t* out, mlx_array array) {
  return item<mlx::core::float16_t>(out, array);
}

int mlx_array_item_bfloat16(uint16_t* out, mlx_array array) {
  return item<mlx::core::bfloat16_t>(out, array);
}

const uint16_t* mlx_array_data_float16(mlx_array array) {
  return data<mlx::core::float16_t>(array);
}

const uint16_t* mlx_array_data_bfloat16(mlx_array array) {
  return data<mlx::core::bfloat16_t>(array);
}

// Mach's clock, which seeds the random numbers of mlx-rs.
uint64_t mach_approximate_time() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

} // extern "C"
