#include "examples/kvm_vmm/serial_port.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace vmsg::example {
namespace {

class SerialPortTest : public testing::Test {
 protected:
  uint8_t In(uint64_t reg) {
    std::array<std::byte, 1> data = {};
    port_.Read(reg, data);
    return std::to_integer<uint8_t>(data[0]);
  }
  void Out(uint64_t reg, uint8_t value) {
    const std::array<std::byte, 1> data = {std::byte{value}};
    port_.Write(reg, data);
  }

  std::string output_;
  std::vector<bool> irq_;
  SerialPort port_{[this](char c) { output_ += c; },
                   [this](bool high) { irq_.push_back(high); }};
};

TEST_F(SerialPortTest, SendsWhatTheGuestWritesAndIsAlwaysReady) {
  EXPECT_EQ(In(5) & 0x60, 0x60);
  Out(0, 'h');
  Out(0, 'i');
  EXPECT_EQ(output_, "hi");
}

TEST_F(SerialPortTest, WritesWhileDlabIsSetAreTheDivisorsAndNotSent) {
  Out(3, 0x80);
  Out(0, 12);
  Out(1, 34);
  EXPECT_EQ(In(0), 12);
  EXPECT_EQ(In(1), 34);
  Out(3, 0x03);
  EXPECT_EQ(output_, "");
  EXPECT_EQ(In(1), 0);
}

TEST_F(SerialPortTest, RaisesItsLineWhileAByteWaitsAndIsAskedFor) {
  port_.Receive("ab");
  EXPECT_TRUE(irq_.empty());
  EXPECT_EQ(In(5) & 1, 1);
  Out(1, 1);
  EXPECT_EQ(irq_, std::vector<bool>{true});
  EXPECT_EQ(In(2), 0x04);
  EXPECT_EQ(In(0), 'a');
  EXPECT_EQ(irq_.size(), 1u);
  EXPECT_EQ(In(0), 'b');
  EXPECT_EQ(irq_, (std::vector<bool>{true, false}));
  EXPECT_EQ(In(5) & 1, 0);
  EXPECT_EQ(In(2), 0x01);
}

TEST_F(SerialPortTest, SaysThatItHasSentWhenAskedAndOnceForEachByte) {
  Out(0, 'a');
  EXPECT_TRUE(irq_.empty()) << "not asked for";
  Out(1, 2);
  EXPECT_EQ(irq_, std::vector<bool>{true});
  EXPECT_EQ(In(2), 0x02);
  EXPECT_EQ(In(2), 0x01) << "reading acknowledges";
  EXPECT_EQ(irq_, (std::vector<bool>{true, false}));
  Out(0, 'b');
  EXPECT_EQ(irq_, (std::vector<bool>{true, false, true})) << "a new edge";
  Out(1, 0);
  EXPECT_EQ(In(2), 0x01);
  Out(1, 2);
  EXPECT_EQ(In(2), 0x02) << "asking again is answered again";
}

TEST_F(SerialPortTest, ReceivedByteComesBeforeSent) {
  port_.Receive("r");
  Out(1, 3);
  EXPECT_EQ(In(2), 0x04);
  EXPECT_EQ(In(0), 'r');
  EXPECT_EQ(In(2), 0x02);
}

TEST_F(SerialPortTest, LoopbackShowsTheModemLinesAndKeepsBytesInside) {
  EXPECT_EQ(In(6), 0xB0);
  Out(4, 0x1A);
  EXPECT_EQ(In(6), 0x90);
  Out(4, 0x15);
  EXPECT_EQ(In(6), 0x60);
  for (int i = 0; i < 100; ++i) Out(0, static_cast<uint8_t>(i));
  EXPECT_EQ(output_, "");
  for (int i = 0; i < 16; ++i) EXPECT_EQ(In(0), i);
  EXPECT_EQ(In(5) & 1, 0) << "the others were lost";
}

TEST_F(SerialPortTest, FifosShowWhenTurnedOnAndCanBeEmptied) {
  port_.Receive("abc");
  Out(2, 0x01);
  EXPECT_EQ(In(2), 0xC1);
  Out(2, 0x03);
  EXPECT_EQ(In(5) & 1, 0);
  Out(2, 0);
  EXPECT_EQ(In(2), 0x01);
}

TEST_F(SerialPortTest, ResetLowersTheLineAndKeepsWhatWasTyped) {
  port_.Receive("a");
  Out(1, 1);
  Out(4, 0x10);
  port_.Reset();
  EXPECT_EQ(irq_, (std::vector<bool>{true, false}));
  EXPECT_EQ(In(1), 0);
  EXPECT_EQ(In(6), 0xB0);
  EXPECT_EQ(In(0), 'a');
}

TEST_F(SerialPortTest, WideAccessesAreBytesInOrder) {
  const std::array<std::byte, 4> data = {std::byte{'x'}, std::byte{0},
                                         std::byte{0}, std::byte{0x03}};
  port_.Write(0, data);
  EXPECT_EQ(output_, "x");
  EXPECT_EQ(In(3), 0x03);
  std::array<std::byte, 8> all = {};
  port_.Read(4, all);
  EXPECT_EQ(std::to_integer<uint8_t>(all[7]), 0xFF);
}

}  // namespace
}  // namespace vmsg::example
