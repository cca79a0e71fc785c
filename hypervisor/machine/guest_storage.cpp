#include "machine/guest_storage.hpp"

namespace warmfork {

Result<GuestStorage> GuestStorage::allocate(const GuestLayout& layout) {
  GuestStorage storage;
  WARMFORK_TRY_ASSIGN(Mapping image, Mapping::anonymous(layout.image_bytes()));
  WARMFORK_TRY_ASSIGN(storage.code, CodeRegion::allocate(layout));
  WARMFORK_TRY_ASSIGN(storage.window,
                      Mapping::anonymous(layout.window_skew() + layout.window_bytes(), x86::kLargePageSize));
  WARMFORK_TRY_ASSIGN(storage.tables, Mapping::anonymous(layout.tables_bytes()));
  image.populate();  // all of it is about to be written
  storage.regions = {.image = image.bytes(),
                     .code = storage.code.bytes,
                     .window = storage.window.bytes().subspan(layout.window_skew()),
                     .tables = storage.tables.bytes(),
                     .window_gpa = kWindowGpa + layout.window_skew(),
                     .tables_gpa = kTablesGpa};
  storage.image = std::make_shared<const Mapping>(std::move(image));
  return storage;
}

}  // namespace warmfork
