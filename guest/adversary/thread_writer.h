// ThreadWriter: the second writer, where there are threads.

#ifndef VMSG_GUEST_ADVERSARY_THREAD_WRITER_H_
#define VMSG_GUEST_ADVERSARY_THREAD_WRITER_H_

#include <atomic>
#include <cstdint>
#include <thread>

#include "guest/adversary/bench.h"

namespace vmsg::guest {

// For processes of the host; guests on bare metal have none.
class ThreadWriter final : public SecondWriter {
 public:
  ThreadWriter() = default;
  ~ThreadWriter() { Stop(); }

  void Start(void (*write)(Bench& bench, uint64_t round),
             Bench* bench) override {
    stop_ = false;
    running_ = false;
    thread_ = std::thread([this, write, bench] {
      for (uint64_t round = 0; !stop_.load(std::memory_order_relaxed);
           ++round) {
        write(*bench, round);
        running_.store(true, std::memory_order_relaxed);
        // Where there is one processor for both, the other side gets its turn.
        if (round % 64 == 63) std::this_thread::yield();
      }
    });
    // Else a short case could be over before it begins.
    while (!running_.load(std::memory_order_relaxed)) {
      std::this_thread::yield();
    }
  }
  void Stop() override {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<bool> running_{false};
  std::thread thread_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_THREAD_WRITER_H_
