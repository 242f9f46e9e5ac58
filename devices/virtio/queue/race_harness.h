// The two sides of a queue on two threads, for tests of either ring format.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_RACE_HARNESS_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_RACE_HARNESS_H_

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Levels, as a doorbell and an interrupt are.
struct Bells {
  std::atomic<bool> kick{false};
  std::atomic<bool> interrupt{false};
};

// Echoes: each request is one readable and one writable word. Completes so many
// at once, the last one first.
inline void RunDevice(TestMemory* memory, Virtqueue* queue, uint32_t requests,
                      size_t at_once, Bells* bells) {
  uint32_t served = 0;
  std::vector<DescriptorChain> held;
  const auto complete = [&] {
    for (; !held.empty(); held.pop_back()) {
      queue->Complete(std::move(held.back()), 4);
    }
  };
  while (served < requests) {
    if (!bells->kick.exchange(false)) {
      std::this_thread::yield();
      continue;
    }
    do {
      queue->DisableNotifications();
      DescriptorChain chain;
      while (queue->Pop(&chain) == Virtqueue::PopResult::kChain) {
        std::array<std::byte, 4> word;
        size_t copied = 0;
        ASSERT_EQ(chain.Read(memory->dma(), 0, word, &copied),
                  vmm::DmaResult::kOk);
        ASSERT_EQ(chain.Write(memory->dma(), 0, word, &copied),
                  vmm::DmaResult::kOk);
        held.push_back(std::move(chain));
        if (held.size() == at_once) complete();
        ++served;
        if (served % 3 == 0 && queue->ShouldNotify()) bells->interrupt = true;
      }
      complete();
      if (queue->ShouldNotify()) bells->interrupt = true;
    } while (queue->EnableNotifications());
    ASSERT_EQ(queue->fault(), QueueFault::kNone);
  }
}

// A driver and a device with `features` and a queue of `size`. A lost kick or a
// lost interrupt hangs: each side sleeps unless it was told, and wants to be
// told of nothing while it is awake. Where the queue keeps the order, the
// device does not.
template <typename Driver>
void EchoAcrossThreads(uint32_t size, const Features& features) {
  constexpr uint32_t kRequests = 20000;
  TestMemory memory;
  Driver driver(memory.memory(), TestMemory::kRam, size,
                features.Has(kFeatureEventIdx));
  auto queue =
      *CreateVirtqueue(0, driver.config(), size, features, memory.dma());
  Bells bells;
  const size_t at_once = features.Has(kFeatureInOrder) ? 3 : 1;
  std::thread device(
      [&] { RunDevice(&memory, queue.get(), kRequests, at_once, &bells); });

  vmm::DmaSpace guest(memory.memory());
  uint32_t sent = 0;
  uint32_t received = 0;
  const auto slot_of = [size](uint32_t request) {
    return vmm::GuestAddress{TestMemory::kBuffers.value +
                             8 * (request % (size / 2))};
  };
  while (received < kRequests) {
    driver.DisableInterrupts();
    while (sent < kRequests && sent - received < size / 2) {
      const vmm::GuestAddress in = slot_of(sent);
      std::array<std::byte, 4> word;
      StoreLittle<uint32_t>(sent, word);
      ASSERT_EQ(guest.Write(in, word), vmm::DmaResult::kOk);
      const typename Driver::Buffer buffers[] = {{in, 4},
                                                 {{in.value + 4}, 4, true}};
      ASSERT_TRUE(driver.Add(buffers).has_value());
      ++sent;
    }
    if (driver.ShouldKick()) bells.kick = true;
    bool any = false;
    while (const auto used = driver.TakeUsed()) {
      any = true;
      EXPECT_EQ(used->length, 4u);
      std::array<std::byte, 4> word;
      ASSERT_EQ(guest.Read({slot_of(received).value + 4}, word),
                vmm::DmaResult::kOk);
      ASSERT_EQ(LoadLittle<uint32_t>(std::span<const std::byte, 4>(word)),
                received);
      ++received;
    }
    if (any || received == kRequests || driver.EnableInterrupts()) continue;
    while (!bells.interrupt.exchange(false)) std::this_thread::yield();
  }
  device.join();
  EXPECT_EQ(driver.bad_used(), 0u);
}

// What a chain promises, whatever the guest does meanwhile.
inline void ExpectInvariants(const DescriptorChain& chain,
                             const Virtqueue& queue) {
  ASSERT_TRUE(chain.valid());
  ASSERT_GE(chain.readable().size() + chain.writable().size(), 1u);
  ASSERT_LE(chain.readable().size() + chain.writable().size(), queue.size());
  uint64_t readable = 0;
  for (const Segment& segment : chain.readable()) {
    ASSERT_NE(segment.length, 0u);
    readable += segment.length;
  }
  uint64_t writable = 0;
  for (const Segment& segment : chain.writable()) {
    ASSERT_NE(segment.length, 0u);
    writable += segment.length;
  }
  ASSERT_EQ(readable, chain.readable_bytes());
  ASSERT_EQ(writable, chain.writable_bytes());
  ASSERT_LE(queue.owed(), queue.size());
}

// A guest that scribbles over the rings for as long as the device is at work:
// `scribble(vmm::DmaSpace* guest, const Driver&, std::mt19937_64*)` is one
// round of it. Ends when enough has happened of both, chains and faults; else
// the scribbling proves nothing.
template <typename Driver, typename Scribble>
void ServeAScribbler(uint32_t size, const Features& features,
                     Scribble scribble) {
  constexpr uint64_t kEnough = 2000;
  TestMemory memory;
  const Driver driver(memory.memory(), TestMemory::kRam, size,
                      features.Has(kFeatureEventIdx));
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    vmm::DmaSpace guest(memory.memory());
    std::mt19937_64 random(7);
    while (!stop.load(std::memory_order_relaxed)) {
      scribble(&guest, driver, &random);
    }
  });

  uint64_t chains = 0;
  uint64_t faults = 0;
  std::array<std::byte, 64> data = {};
  while (chains < kEnough || faults < kEnough) {
    auto queue =
        *CreateVirtqueue(0, driver.config(), size, features, memory.dma());
    std::vector<DescriptorChain> held;
    DescriptorChain chain;
    Virtqueue::PopResult popped;
    while ((popped = queue->Pop(&chain)) == Virtqueue::PopResult::kChain) {
      ++chains;
      ExpectInvariants(chain, *queue);
      size_t copied = 0;
      chain.Read(memory.dma(), 0, data, &copied);
      chain.Write(memory.dma(), 0, data, &copied);
      held.push_back(std::move(chain));
      if (held.size() == 3) break;
    }
    if (popped == Virtqueue::PopResult::kBroken) ++faults;
    for (DescriptorChain& owed : held) {
      const uint32_t written = owed.writable_bytes();
      queue->Complete(std::move(owed), written);
    }
    queue->ShouldNotify();
    queue->EnableNotifications();
  }
  stop.store(true, std::memory_order_relaxed);
  scribbler.join();
}

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_RACE_HARNESS_H_
