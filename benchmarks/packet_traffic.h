// What two threads do with packet queues.
//
// Each thread works on its own stack until it is done: a count that both could
// see would lie on a cache line that both write to, and cost more than what is
// measured.

#ifndef VMSG_BENCHMARKS_PACKET_TRAFFIC_H_
#define VMSG_BENCHMARKS_PACKET_TRAFFIC_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "benchmark/benchmark.h"
#include "benchmarks/two_threads.h"
#include "vmm/base/check.h"

namespace vmsg::bench {

// Packets that were written long before they are sent, so that no queue gains
// or loses by how the processor forwards fresh stores.
template <typename Packet>
class PreparedPackets {
 public:
  static constexpr uint64_t kCount = 64;

  PreparedPackets() {
    for (uint64_t i = 0; i < kCount; ++i) {
      packets_[i].bytes.fill(static_cast<std::byte>(i + 1));
    }
  }

  const Packet& operator[](uint64_t i) const { return packets_[i % kCount]; }

  // Whether `packet` came through as number `i`, judged by its two ends. The
  // whole packet has to be in memory for it.
  static bool IsNumber(uint64_t i, Packet& packet) {
    benchmark::DoNotOptimize(packet);
    const auto mark = static_cast<std::byte>(i % kCount + 1);
    return packet.bytes.front() == mark && packet.bytes.back() == mark;
  }

 private:
  std::array<Packet, kCount> packets_;
};

// Sends `count` packets through `queue`, one at a time; the time for all.
template <typename Queue>
std::chrono::nanoseconds Stream(TwoThreads& threads, Queue& queue,
                                uint64_t count) {
  using Packet = typename Queue::Packet;
  const PreparedPackets<Packet> packets;
  uint64_t wrong = 0;
  const auto producer = [&] {
    for (uint64_t i = 0; i < count; ++i) {
      Backoff backoff;
      while (!queue.Put(packets[i])) backoff.Wait();
    }
  };
  const auto consumer = [&] {
    Packet packet;
    uint64_t mismatches = 0;
    for (uint64_t i = 0; i < count; ++i) {
      Backoff backoff;
      while (!queue.Take(&packet)) backoff.Wait();
      mismatches += packets.IsNumber(i, packet) ? 0 : 1;
    }
    wrong = mismatches;
  };
  const std::chrono::nanoseconds time = threads.Run(producer, consumer);
  VMSG_CHECK(wrong == 0, "packets were lost or changed");
  return time;
}

// As Stream, but up to `batch` packets are published at a time, and what is
// there is given back at a time.
template <typename Queue>
std::chrono::nanoseconds StreamInBatches(TwoThreads& threads, Queue& queue,
                                         uint64_t count, uint64_t batch) {
  using Packet = typename Queue::Packet;
  const PreparedPackets<Packet> packets;
  uint64_t wrong = 0;
  const auto producer = [&] {
    Backoff backoff;
    for (uint64_t i = 0; i < count;) {
      const uint64_t start = i;
      while (i < count && i - start < batch && queue.Add(packets[i])) ++i;
      queue.Publish();
      if (i == start) backoff.Wait();
    }
  };
  const auto consumer = [&] {
    Packet packet;
    Backoff backoff;
    uint64_t mismatches = 0;
    for (uint64_t i = 0; i < count;) {
      const uint64_t start = i;
      while (i - start < batch && queue.Get(&packet)) {
        mismatches += packets.IsNumber(i, packet) ? 0 : 1;
        ++i;
      }
      queue.Release();
      if (i == start) backoff.Wait();
    }
    wrong = mismatches;
  };
  const std::chrono::nanoseconds time = threads.Run(producer, consumer);
  VMSG_CHECK(wrong == 0, "packets were lost or changed");
  return time;
}

// Sends `count` packets there and back again, one at a time.
template <typename There, typename Back>
std::chrono::nanoseconds Echo(TwoThreads& threads, There& there, Back& back,
                              uint64_t count) {
  using TherePacket = typename There::Packet;
  using BackPacket = typename Back::Packet;
  const PreparedPackets<TherePacket> requests;
  const PreparedPackets<BackPacket> answers;
  uint64_t wrong_requests = 0;
  uint64_t wrong_answers = 0;
  const auto asker = [&] {
    BackPacket packet;
    uint64_t mismatches = 0;
    for (uint64_t i = 0; i < count; ++i) {
      Backoff backoff;
      while (!there.Put(requests[i])) backoff.Wait();
      while (!back.Take(&packet)) backoff.Wait();
      mismatches += answers.IsNumber(i, packet) ? 0 : 1;
    }
    wrong_answers = mismatches;
  };
  const auto answerer = [&] {
    TherePacket packet;
    uint64_t mismatches = 0;
    for (uint64_t i = 0; i < count; ++i) {
      Backoff backoff;
      while (!there.Take(&packet)) backoff.Wait();
      mismatches += requests.IsNumber(i, packet) ? 0 : 1;
      while (!back.Put(answers[i])) backoff.Wait();
    }
    wrong_requests = mismatches;
  };
  const std::chrono::nanoseconds time = threads.Run(asker, answerer);
  VMSG_CHECK(wrong_requests + wrong_answers == 0,
             "packets were lost or changed");
  return time;
}

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_PACKET_TRAFFIC_H_
