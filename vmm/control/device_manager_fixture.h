// DeviceManagerTest: a DeviceManager between fake buses of one function and a
// test that asks it for things.

#ifndef VMSG_VMM_CONTROL_DEVICE_MANAGER_FIXTURE_H_
#define VMSG_VMM_CONTROL_DEVICE_MANAGER_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::control {

inline constexpr uint32_t kDriverOk = 4;

// What a Reply brought.
template <typename T>
struct Answer {
  bool arrived = false;
  OperationStatus status;
  T value;

  Reply<T> Take() {
    return [this](OperationStatus s, T v) {
      arrived = true;
      status = std::move(s);
      value = std::move(v);
    };
  }
};

class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.emplace_back(record.message);
  }
  std::vector<std::string> lines;
};

// One loop plays control loop and FIFO loops: the order of posts is what the
// manager relies on, and it is the same.
class DeviceManagerTest : public testing::Test {
 protected:
  DeviceManagerTest() {
    auto manager =
        DeviceManager::Create(&loop_, {&bus0_, &bus1_}, {&factory_}, &log_);
    manager_ = std::move(*manager);
    loop_.RunUntilIdle();
  }

  static AttachRequest Request(std::string id = "") {
    AttachRequest request;
    request.id = std::move(id);
    request.config = {"test.Fake", "good"};
    return request;
  }
  static DetachRequest Removal(std::string id) {
    DetachRequest request;
    request.id = std::move(id);
    return request;
  }

  Answer<DeviceRecord> Attach(AttachRequest request) {
    Answer<DeviceRecord> answer;
    manager_->Attach(std::move(request), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  Answer<DeviceRecord> Detach(DetachRequest request) {
    Answer<DeviceRecord> answer;
    manager_->Detach(std::move(request), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  Answer<DeviceRecord> Get(std::string id) {
    Answer<DeviceRecord> answer;
    manager_->Get(std::move(id), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  std::vector<std::string> Ids() {
    Answer<DeviceList> answer;
    manager_->List(answer.Take());
    loop_.RunUntilIdle();
    std::vector<std::string> ids;
    for (const DeviceRecord& record : answer.value.devices) {
      ids.push_back(record.id);
    }
    return ids;
  }

  RememberingLogSink log_;
  vmm::ManualEventLoop loop_;
  FakeHotplugBus bus0_{{"amp0", 0}, &loop_};
  FakeHotplugBus bus1_{{"amp0", 1}, &loop_};
  FakeFactory factory_;
  std::unique_ptr<DeviceManager> manager_;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_DEVICE_MANAGER_FIXTURE_H_
