// What Kvm::open says where there is no KVM: the first thing a new user may read.
#include "kvm/kvm.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace warmfork::kvm {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string open_message(const std::string& path) {
  const auto kvm = Kvm::open(path);
  EXPECT_FALSE(kvm);
  if (kvm) return {};
  EXPECT_EQ(kvm.error().kind, ErrorKind::kHost);
  EXPECT_EQ(kvm.error().message.find('\n'), std::string::npos);
  return kvm.error().message;
}

class KvmOpen : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "warmfork-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string path(const char* name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

TEST_F(KvmOpen, SaysThatThereIsNoDevice) {
  EXPECT_THAT(open_message(path("kvm")),
              AllOf(StartsWith(path("kvm") + ": there is no KVM"), HasSubstr("kvm_amd or kvm_intel")));
}

TEST_F(KvmOpen, SaysThatADeviceIsNotKvm) {
  EXPECT_EQ(open_message("/dev/null"), "/dev/null: not a KVM device (Inappropriate ioctl for device)");
}

TEST_F(KvmOpen, SaysThatNoModuleServesTheDevice) {
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path("kvm").size(), sizeof address.sun_path);
  path("kvm").copy(address.sun_path, sizeof address.sun_path - 1);
  // SAFETY: the sockets API takes every address family through sockaddr.
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(open_message(path("kvm")), path("kvm") + ": the device exists but no KVM module serves it");
}

TEST_F(KvmOpen, SaysWhatElseStandsInTheWay) { EXPECT_THAT(open_message("/"), EndsWith(": Is a directory")); }

TEST_F(KvmOpen, SaysWhatToDoWithoutPermission) {
  const UniqueFd file(::open(path("kvm").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0000));
  ASSERT_TRUE(file);
  ASSERT_EQ(::fchmod(file.get(), 0), 0);
  // root may open anything: this thread gives that up for the file system, and takes it back.
  constexpr uid_t kNobody = 65534;
  const bool is_root = ::geteuid() == 0;
  if (is_root) ::setfsuid(kNobody);
  const bool unprivileged = ::access("/", F_OK) == 0 && !UniqueFd(::open(path("kvm").c_str(), O_RDWR | O_CLOEXEC));
  const std::string message = unprivileged ? open_message(path("kvm")) : std::string();
  if (is_root) ::setfsuid(0);
  if (!unprivileged) GTEST_SKIP() << "this user may open a file of mode 000";
  EXPECT_THAT(message, AllOf(StartsWith(path("kvm") + ": no permission"), HasSubstr("usermod -aG kvm")));
}

TEST(KvmCapabilities, EachMissingOneIsNamed) {
  EXPECT_TRUE(check_capabilities([](long) { return KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS; }));
  for (const auto& [number, name] : {std::pair{long{KVM_CAP_READONLY_MEM}, "KVM_CAP_READONLY_MEM"},
                                     std::pair{long{KVM_CAP_SYNC_REGS}, "KVM_CAP_SYNC_REGS"},
                                     std::pair{long{KVM_CAP_IMMEDIATE_EXIT}, "KVM_CAP_IMMEDIATE_EXIT"}}) {
    const auto result = check_capabilities([&](long asked) { return asked == number ? 0 : 7; });
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::kHost);
    EXPECT_THAT(result.error().message, HasSubstr(name));
  }
  const auto registers_only = check_capabilities([](long) { return KVM_SYNC_X86_REGS; });
  ASSERT_FALSE(registers_only);
  EXPECT_THAT(registers_only.error().message, HasSubstr("segments"));
}

}  // namespace
}  // namespace warmfork::kvm
