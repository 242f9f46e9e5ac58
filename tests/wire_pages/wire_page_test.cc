#include "tests/wire_pages/wire_page.h"

#include <cstddef>
#include <vector>

#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace vmsg {
namespace {

constexpr char kPage[] =
    "Text.\n```hex one\n01 ff\n02\n```\nText.\n```\nzz\n```\n"
    "```hex two\n1000: 0a\n20: 0b 0c\n```\n";

const std::vector<std::byte> kOne = {std::byte{1}, std::byte{0xFF},
                                     std::byte{2}};

std::vector<std::byte> ReadTwo(uint64_t address, size_t size) {
  if (address == 0x1000 && size == 1) return {std::byte{0x0A}};
  if (address == 0x20 && size == 2) return {std::byte{0x0B}, std::byte{0x0C}};
  return {};
}

TEST(WirePageTest, ExamplesThatAreTrueArePassed) {
  WirePage page = WirePage::FromText(kPage);
  page.ExpectBytes("one", kOne);
  page.ExpectPlaces("two", ReadTwo);
  page.ExpectAllCompared();
}

TEST(WirePageTest, AnotherByteIsNoticed) {
  EXPECT_NONFATAL_FAILURE(WirePage::FromText(kPage).ExpectBytes("one", {}),
                          "one");
  EXPECT_NONFATAL_FAILURE(WirePage::FromText("```hex two\n20: 0b 0d\n```\n")
                              .ExpectPlaces("two", ReadTwo),
                          "0b 0d");
}

TEST(WirePageTest, AnExampleThatIsMissingOrNotComparedIsNoticed) {
  EXPECT_NONFATAL_FAILURE(
      WirePage::FromText(kPage).ExpectPlaces("three", ReadTwo), "no example");
  EXPECT_NONFATAL_FAILURE(
      {
        WirePage page = WirePage::FromText(kPage);
        page.ExpectBytes("one", kOne);
        page.ExpectAllCompared();
      },
      "two is not compared");
}

TEST(WirePageTest, WhatIsNoHexadecimalByteIsNoticed) {
  EXPECT_NONFATAL_FAILURE(WirePage::FromText("```hex a\n0x\n```\n"), "0x");
  EXPECT_NONFATAL_FAILURE(WirePage::FromText("```hex a\n01\n"), "without end");
  EXPECT_NONFATAL_FAILURE(WirePage::FromText("```hex a\n```\n```hex a\n```\n"),
                          "twice");
}

}  // namespace
}  // namespace vmsg
