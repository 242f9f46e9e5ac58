// SharedMutex: a lock that many may share, and one at a time has alone.

#ifndef VMSG_VMM_BASE_SHARED_MUTEX_H_
#define VMSG_VMM_BASE_SHARED_MUTEX_H_

#include <pthread.h>

#include "absl/base/thread_annotations.h"
#include "vmm/base/check.h"
#include "vmm/base/mutex.h"

namespace vmsg::vmm {

// Who wants it alone goes first: those who share it, again and again, can't
// keep him out, which std::shared_mutex does not promise. Nor can several who
// want it alone keep out those who share: between two of them these have their
// turn. Not recursive, for those who share it either: a second LockShared() of
// a thread could wait for one who wants it alone, and he for the first.
class ABSL_LOCKABLE SharedMutex {
 public:
  SharedMutex() {
    pthread_rwlockattr_t attributes;
    VMSG_CHECK(pthread_rwlockattr_init(&attributes) == 0);
    VMSG_CHECK(pthread_rwlockattr_setkind_np(
                   &attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) ==
               0);
    VMSG_CHECK(pthread_rwlock_init(&lock_, &attributes) == 0);
    pthread_rwlockattr_destroy(&attributes);
  }
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;
  ~SharedMutex() { pthread_rwlock_destroy(&lock_); }

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    one_.Lock();
    VMSG_CHECK(pthread_rwlock_wrlock(&lock_) == 0);
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    pthread_rwlock_unlock(&lock_);
    one_.Unlock();
  }
  void LockShared() ABSL_SHARED_LOCK_FUNCTION() {
    VMSG_CHECK(pthread_rwlock_rdlock(&lock_) == 0);
  }
  void UnlockShared() ABSL_UNLOCK_FUNCTION() { pthread_rwlock_unlock(&lock_); }

 private:
  // One at a time asks for lock_ alone: glibc hands it from one to the next
  // that waits, past all who share.
  Mutex one_;
  pthread_rwlock_t lock_;
};

class ABSL_SCOPED_LOCKABLE ExclusiveLock {
 public:
  explicit ExclusiveLock(SharedMutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_->Lock();
  }
  ExclusiveLock(const ExclusiveLock&) = delete;
  ExclusiveLock& operator=(const ExclusiveLock&) = delete;
  ~ExclusiveLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }

 private:
  SharedMutex* const mutex_;
};

class ABSL_SCOPED_LOCKABLE SharedLock {
 public:
  explicit SharedLock(SharedMutex* mutex) ABSL_SHARED_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_->LockShared();
  }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;
  ~SharedLock() ABSL_UNLOCK_FUNCTION() { mutex_->UnlockShared(); }

 private:
  SharedMutex* const mutex_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_SHARED_MUTEX_H_
