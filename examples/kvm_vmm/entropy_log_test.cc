#include "examples/kvm_vmm/entropy_log.h"

#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <iterator>
#include <string>

namespace vmsg::example {
namespace {

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The next 16 bytes of a source.
std::string Take(virtio::EntropySource* source) {
  std::array<std::byte, 16> bytes = {};
  bool filled = false;
  source->Fill(bytes, [&filled](bool ok) { filled = ok; });
  EXPECT_TRUE(filled);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(EntropyLogTest, RecordsHoldWhatEachSourceHandedOut) {
  const std::string record = testing::TempDir() + "/record";
  EntropyLog log(record);
  const auto first = log.NewSource();
  const auto second = log.NewSource();
  const std::string a = Take(first.get());
  const std::string b = Take(second.get());
  const std::string c = Take(first.get());
  EXPECT_EQ(Content(record + ".0"), a + c) << "while the source is there";
  EXPECT_EQ(Content(record + ".1"), b);
  ASSERT_EQ(log.totals().size(), 2u);
  EXPECT_EQ(log.totals()[0].bytes, 32u);
  EXPECT_EQ(log.totals()[1].bytes, 16u);
}

}  // namespace
}  // namespace vmsg::example
