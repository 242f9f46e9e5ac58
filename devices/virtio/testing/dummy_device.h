// DummyDevice: a virtio device whose every step takes its time.
//
// It stands in for the slow and unreliable devices of the real world where a
// transport, a bus or a control plane is tested: back-end work of random length
// that ends out of order, a back end that fails on demand, activation, quiesce
// and resets that take long. All delays are timers of the loop, drawn from a
// seeded generator, so a run with a manual clock can be repeated exactly.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_DUMMY_DEVICE_H_
#define VMSG_DEVICES_VIRTIO_TESTING_DUMMY_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/features.h"
#include "devices/virtio/testing/notifier_thread.h"
#include "devices/virtio/transition.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/event/event_loop.h"

namespace vmsg::virtio {

struct DummyOptions {
  uint64_t seed = 1;
  uint32_t device_id = 0xfe0;  // given to no device type
  uint32_t num_queues = 2;
  uint32_t max_queue_size = 64;
  Features offered = {kFeatureVersion1, kFeatureIndirectDesc,
                      kFeatureEventIdx, kFeatureRingPacked,
                      kFeatureInOrder,  kFeatureNotificationData,
                      kFeatureRingReset};
  // AcceptFeatures() refuses a set that lacks one of these.
  Features required = {kFeatureVersion1};
  // The first kReadOnlyConfigBytes of it are refused to the driver.
  uint32_t config_size = 16;
  std::optional<SharedMemoryRegion> shared_memory = std::nullopt;  // id 0

  // Requests in the back end at once, over all queues.
  uint32_t max_in_flight = 8;
  // Each delay is drawn evenly from 0 to this.
  vmm::Duration max_work_delay = std::chrono::microseconds(200);
  vmm::Duration max_transition_delay = std::chrono::microseconds(500);

  // Calls NotifyUsed() from a thread of its own.
  bool notify_from_thread = false;
};

// A request echoes: its readable bytes, as far as they fit and at most
// kMaxEchoBytes, come back in its writable ones. With a failing back end, and
// once FailRequests() was called, it is completed with 0 bytes.
//
// A call that the life in virtio_device.h does not allow aborts: it is a
// mistake of the transport under test.
class DummyDevice final : public VirtioDevice {
 public:
  static constexpr uint32_t kMaxEchoBytes = 4096;
  static constexpr uint32_t kReadOnlyConfigBytes = 4;
  static constexpr uint32_t kStateVersion = 1;

  enum class State : uint8_t {
    kInactive,
    kActivating,
    kActive,
    kQuiescing,
    kQuiesced,
    kResetting,
    kRemoving,
    kRemoved,
  };

  struct Stats {
    uint64_t taken = 0;      // chains popped
    uint64_t completed = 0;  // given back with an echo
    uint64_t failed = 0;     // given back with 0 bytes
    uint64_t dropped = 0;    // back-end work of an earlier epoch
    uint64_t activations = 0;
    uint64_t resets = 0;  // begun
  };

  // `loop` is borrowed and outlives the device.
  DummyDevice(const DummyOptions& options, vmm::EventLoop* loop);
  ~DummyDevice() override;

  // --- Knobs and views of the test. Loop thread. ---

  // From now on requests fail, or work again; tells the notifier.
  void SetBackendFailing(bool failing);
  // The next Activate() ends with this error. `error` is not OK.
  void FailNextActivation(absl::Status error);
  // Transitions do not end until released, whatever their delay.
  void HoldTransitions(bool hold);
  // Changes the configuration as the device itself would; what it is after a
  // reset, too.
  void ChangeConfig(uint32_t offset, std::span<const std::byte> data);
  // Breaks: asks for a reset and stops working.
  void Break(std::string_view reason);

  State state() const { return state_; }
  bool failing() const { return failing_; }
  // What it was activated with; none before.
  const Features& features() const { return context_.features; }
  const Stats& stats() const { return stats_; }
  // Requests in the back end, those of earlier epochs included.
  uint32_t in_flight() const;

  // --- VirtioDevice. ---

  uint32_t device_id() const override { return options_.device_id; }
  Features offered_features() const override { return options_.offered; }
  std::span<const QueueLimits> queues() const override { return limits_; }
  uint32_t config_size() const override { return options_.config_size; }
  std::optional<SharedMemoryRegion> shared_memory(uint8_t id) const override;
  void ReadConfig(uint32_t offset, std::span<std::byte> data) const override;
  bool WriteConfig(uint32_t offset, std::span<const std::byte> data) override;
  void SetConfigNotifier(DriverNotifier* notifier) override {
    config_notifier_ = notifier;
  }
  bool AcceptFeatures(const Features& features) const override;
  void Activate(const DeviceContext& context,
                std::vector<std::unique_ptr<Virtqueue>> queues,
                StatusCompletion done) override;
  void ActivateQueue(std::unique_ptr<Virtqueue> queue) override;
  void QueueNotify(uint16_t index) override;
  void ResetQueue(uint16_t index, Completion done) override;
  void Quiesce(Completion done) override;
  void Resume() override;
  void FailRequests() override;
  void Reset(Completion done) override;
  void Remove(Completion done) override;
  SavedState Save() const override;
  absl::Status Restore(const SavedState& state) override;
  std::vector<std::optional<Virtqueue::Position>> queue_positions()
      const override;

 private:
  struct Queue {
    std::unique_ptr<Virtqueue> queue;
    uint64_t epoch = 1;
    uint32_t in_flight = 0;  // of this epoch
  };
  // A place in the back end. Its work can't be called off: when its time is up
  // the epoch tells whether anybody still wants it.
  struct Job {
    std::unique_ptr<vmm::Timer> timer;
    DescriptorChain chain;
    uint16_t queue = 0;
    uint64_t epoch = 0;
    bool busy = false;
  };

  vmm::Duration RandomDelay(vmm::Duration max);
  bool Works() const;  // may take chains
  void Pump();
  bool PumpQueue(uint16_t index);
  Job* FreeJob();
  void JobDone(Job* job);
  void Finish(uint16_t index, DescriptorChain chain, bool ok);
  void Notify(uint16_t index);
  void BreakOnFault(uint16_t index);
  void ForgetQueue(uint16_t index);
  void RestoreConfig();
  void StartTransition(State state);
  void TransitionTimeUp();
  void MaybeEndTransition();

  const DummyOptions options_;
  const std::vector<QueueLimits> limits_;
  vmm::EventLoop* const loop_;
  std::mt19937_64 random_;
  std::vector<std::byte> initial_config_;  // without what the driver wrote
  std::vector<std::byte> config_;
  DriverNotifier* config_notifier_ = nullptr;

  State state_ = State::kInactive;
  bool failing_ = false;          // FailRequests() was called
  bool backend_failing_ = false;  // SetBackendFailing()
  bool broken_ = false;
  bool hold_transitions_ = false;
  bool time_is_up_ = false;
  absl::Status activation_error_;
  DeviceContext context_;
  std::vector<Queue> queues_;
  std::vector<Job> jobs_;
  std::array<std::byte, kMaxEchoBytes> buffer_;
  Stats stats_;

  Transition transition_;
  std::unique_ptr<vmm::Timer> transition_timer_;
  std::unique_ptr<vmm::WakeSource> pump_;
  std::unique_ptr<NotifierThread> thread_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_DUMMY_DEVICE_H_
