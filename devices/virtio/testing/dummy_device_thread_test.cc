// The whole life of a device on a real loop, with the driver and the notifier
// on threads of their own. For ThreadSanitizer above all.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_notifier.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/mutex.h"
#include "vmm/event/epoll_event_loop.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using Completion = VirtioDevice::Completion;

constexpr uint32_t kSize = 64;
constexpr uint16_t kQueue = 1;
const Features kFeatures = {kFeatureVersion1, kFeatureEventIdx};

// An event that one thread waits for.
class Event {
 public:
  void Set() {
    vmm::MutexLock lock(&mutex_);
    set_ = true;
    changed_.NotifyAll();
  }
  void Wait() {
    vmm::MutexLock lock(&mutex_);
    while (!set_) changed_.Wait(&mutex_);
  }

 private:
  vmm::Mutex mutex_;
  vmm::CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

// The test's thread is the driver and the control plane.
class DummyDeviceThreadTest : public ::testing::Test {
 protected:
  DummyDeviceThreadTest() : loop_(*vmm::EpollEventLoop::Create()) {
    kick_ = loop_->CreateWakeSource([this] {
      if (device_ != nullptr &&
          device_->state() == DummyDevice::State::kActive) {
        device_->QueueNotify(kQueue);
      }
    });
    device_ = std::make_unique<DummyDevice>(
        DummyOptions{.notify_from_thread = true}, loop_.get());
    thread_ = std::thread([this] { loop_->Run(); });
  }
  ~DummyDeviceThreadTest() override {
    loop_->Stop();
    thread_.join();
    device_ = nullptr;
    kick_ = nullptr;
  }

  // Runs `step` on the loop and waits until it has called what it was given.
  void Await(std::function<void(Completion)> step) {
    auto event = std::make_shared<Event>();
    ASSERT_TRUE(loop_->Post(
        [event, step = std::move(step)] { step([event] { event->Set(); }); }));
    event->Wait();
  }
  void OnLoop(std::function<void()> step) {
    Await([step = std::move(step)](Completion done) {
      step();
      done();
    });
  }

  std::unique_ptr<Virtqueue> NewQueue() {
    return *CreateVirtqueue(kQueue, driver_->config(), kSize, kFeatures,
                            memory_.dma());
  }
  void StartActivation(VirtioDevice::StatusCompletion done) {
    std::vector<std::unique_ptr<Virtqueue>> queues(2);
    queues[kQueue] = NewQueue();
    device_->Activate({.loop = loop_.get(),
                       .dma = memory_.dma(),
                       .notifier = notifier_.get(),
                       .features = kFeatures},
                      std::move(queues), std::move(done));
  }
  void NewDriver() {
    driver_ = std::make_unique<FakeDriverQueue>(
        memory_.memory(), TestMemory::kRam, kSize, /*event_idx=*/true);
    sent_ = 0;
  }
  void Activate() {
    NewDriver();
    notifier_ = std::make_unique<FakeNotifier>();
    Await([this](Completion done) {
      StartActivation([done = std::move(done)](absl::Status status) mutable {
        EXPECT_TRUE(status.ok());
        done();
      });
    });
  }
  // After it nobody may use the notifier: it is gone.
  void Reset() {
    Await([this](Completion done) { device_->Reset(std::move(done)); });
    notifier_ = nullptr;
  }

  void Send() {
    const uint64_t slot = TestMemory::kBuffers.value + 16 * (sent_ % 8);
    memory_.Write({slot}, CountingBytes(8, static_cast<uint8_t>(sent_)));
    ++sent_;
    ASSERT_TRUE(
        driver_->Add(std::vector<Buffer>{{{slot}, 8}, {{slot + 8}, 8, true}})
            .has_value());
    if (driver_->ShouldKick()) kick_->Signal();
  }
  // Waits for all answers, asleep until notified; returns how many had data.
  uint32_t Collect() {
    uint32_t echoed = 0;
    while (driver_->outstanding() != 0) {
      const uint64_t before = notifier_->used(kQueue);
      if (const auto used = driver_->TakeUsed()) {
        if (used->length == 8) ++echoed;
        continue;
      }
      if (driver_->EnableInterrupts()) continue;
      while (notifier_->used(kQueue) == before) std::this_thread::yield();
    }
    EXPECT_EQ(driver_->bad_used(), 0u);
    return echoed;
  }
  void EchoSome() {
    for (int i = 0; i < 8; ++i) Send();
    EXPECT_EQ(Collect(), 8u);
    EXPECT_EQ(memory_.Read({TestMemory::kBuffers.value + 8}, 8),
              CountingBytes(8, static_cast<uint8_t>(sent_ - 8)));
  }

  TestMemory memory_;
  std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::unique_ptr<vmm::WakeSource> kick_;
  std::unique_ptr<DummyDevice> device_;
  std::unique_ptr<FakeDriverQueue> driver_;
  std::unique_ptr<FakeNotifier> notifier_;
  uint32_t sent_ = 0;
  std::thread thread_;
};

constexpr int kRounds = 10;

TEST_F(DummyDeviceThreadTest, EchoesThroughActivationsAndResets) {
  for (int i = 0; i < kRounds; ++i) {
    Activate();
    EchoSome();
    EchoSome();
    Reset();
  }
}

TEST_F(DummyDeviceThreadTest, QuiescedDeviceResumesWhereItStood) {
  Activate();
  for (int i = 0; i < kRounds; ++i) {
    for (int j = 0; j < 4; ++j) Send();
    Await([this](Completion done) { device_->Quiesce(std::move(done)); });
    OnLoop([this] {
      const auto position = device_->queue_positions()[kQueue];
      EXPECT_TRUE(position.has_value());
      EXPECT_EQ(position->next_avail, position->next_used);
      EXPECT_TRUE(device_->Restore(device_->Save()).ok());
      device_->Resume();
      device_->QueueNotify(kQueue);
    });
    EXPECT_EQ(Collect(), 4u);
  }
  Reset();
}

TEST_F(DummyDeviceThreadTest, QueueResetForgetsItsRequestsOnly) {
  Activate();
  for (int i = 0; i < kRounds; ++i) {
    for (int j = 0; j < 4; ++j) Send();
    Await([this](Completion done) {
      device_->ResetQueue(kQueue, std::move(done));
    });
    NewDriver();
    OnLoop([this] { device_->ActivateQueue(NewQueue()); });
    EchoSome();
  }
  Reset();
}

TEST_F(DummyDeviceThreadTest, ResetInTheMiddleOfWorkTouchesNothingAfter) {
  for (int i = 0; i < kRounds; ++i) {
    Activate();
    for (int j = 0; j < 8; ++j) Send();
    Reset();
    // The driver has its memory back: late work would show here.
    const std::vector<std::byte> mark(TestMemory::kRamBytes, std::byte{0x5a});
    memory_.Write(TestMemory::kRam, mark);
    bool idle = false;
    while (!idle) {
      OnLoop([this, &idle] { idle = device_->in_flight() == 0; });
    }
    EXPECT_TRUE(memory_.Read(TestMemory::kRam, mark.size()) == mark);
  }
  Activate();
  EchoSome();
  Reset();
}

TEST_F(DummyDeviceThreadTest, ForcedRemovalAnswersEverything) {
  for (int i = 0; i < kRounds; ++i) {
    Activate();
    for (int j = 0; j < 8; ++j) Send();
    OnLoop([this] { device_->FailRequests(); });
    for (int j = 0; j < 4; ++j) Send();
    Collect();
    Reset();
  }
}

TEST_F(DummyDeviceThreadTest, BackEndMayFailAndRecoverAtAnyTime) {
  Activate();
  for (int i = 0; i < kRounds; ++i) {
    for (int j = 0; j < 4; ++j) Send();
    OnLoop([this] { device_->SetBackendFailing(true); });
    for (int j = 0; j < 4; ++j) Send();
    Collect();
    OnLoop([this] { device_->SetBackendFailing(false); });
    EchoSome();
  }
  Reset();
}

TEST_F(DummyDeviceThreadTest, OvertakenCompletionsAreNeverCalled) {
  std::atomic<int> overtaken{0};
  const auto never = [&overtaken] { ++overtaken; };
  for (int i = 0; i < kRounds; ++i) {
    Activate();
    Send();
    Await([&](Completion done) {
      device_->Quiesce(never);
      device_->Reset(std::move(done));
    });
    Await([&](Completion done) {
      StartActivation([never](absl::Status) { never(); });
      device_->Reset(std::move(done));
    });
  }
  Activate();
  Send();
  Await([&](Completion done) {
    device_->Reset(never);
    device_->Remove([this, done = std::move(done)]() mutable {
      device_ = nullptr;
      done();
    });
  });
  EXPECT_EQ(overtaken, 0);
}

}  // namespace
}  // namespace vmsg::virtio
