// GoogleTest matchers for absl::Status and absl::StatusOr.
//
//   EXPECT_THAT(memory.Add(region), IsOk());
//   EXPECT_THAT(memory.Add(region), StatusIs(absl::StatusCode::kAlreadyExists,
//                                            HasSubstr("overlaps")));
//   ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());

#ifndef VMSG_VMM_TESTING_STATUS_MATCHERS_H_
#define VMSG_VMM_TESTING_STATUS_MATCHERS_H_

#include <ostream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::vmm {

namespace status_matchers_internal {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// Matches code and message of an absl::Status or absl::StatusOr<T>.
class StatusMatcher {
 public:
  using is_gtest_matcher = void;

  StatusMatcher(::testing::Matcher<absl::StatusCode> code,
                ::testing::Matcher<std::string> message)
      : code_(std::move(code)), message_(std::move(message)) {}

  template <typename T>
  bool MatchAndExplain(const T& value,
                       ::testing::MatchResultListener* listener) const {
    const absl::Status& status = StatusOf(value);
    *listener << "whose status is " << status.ToString();
    return code_.Matches(status.code()) &&
           message_.Matches(std::string(status.message()));
  }

  void DescribeTo(std::ostream* os) const {
    *os << "has a status code that ";
    code_.DescribeTo(os);
    *os << " and a message that ";
    message_.DescribeTo(os);
  }
  void DescribeNegationTo(std::ostream* os) const {
    *os << "has a status code that ";
    code_.DescribeNegationTo(os);
    *os << " or a message that ";
    message_.DescribeNegationTo(os);
  }

 private:
  const ::testing::Matcher<absl::StatusCode> code_;
  const ::testing::Matcher<std::string> message_;
};

}  // namespace status_matchers_internal

inline status_matchers_internal::StatusMatcher StatusIs(
    ::testing::Matcher<absl::StatusCode> code,
    ::testing::Matcher<std::string> message = ::testing::_) {
  return {std::move(code), std::move(message)};
}

inline status_matchers_internal::StatusMatcher IsOk() {
  return StatusIs(absl::StatusCode::kOk);
}

}  // namespace vmsg::vmm

#define EXPECT_OK(expression) EXPECT_THAT((expression), ::vmsg::vmm::IsOk())
#define ASSERT_OK(expression) ASSERT_THAT((expression), ::vmsg::vmm::IsOk())

// Declares or assigns `lhs` from the value of a StatusOr expression; ends the
// test with the status when there is none. Two statements: not for the body of
// an unbraced `if`.
#define ASSERT_OK_AND_ASSIGN(lhs, ...)                                     \
  VMSG_ASSERT_OK_AND_ASSIGN_IMPL(VMSG_STATUS_CONCAT(status_or_, __LINE__), \
                                 lhs, (__VA_ARGS__))

#define VMSG_ASSERT_OK_AND_ASSIGN_IMPL(result, lhs, expression) \
  auto result = expression;                                     \
  ASSERT_THAT(result, ::vmsg::vmm::IsOk());                     \
  lhs = *std::move(result)

#define VMSG_STATUS_CONCAT(a, b) VMSG_STATUS_CONCAT_INNER(a, b)
#define VMSG_STATUS_CONCAT_INNER(a, b) a##b

#endif  // VMSG_VMM_TESTING_STATUS_MATCHERS_H_
