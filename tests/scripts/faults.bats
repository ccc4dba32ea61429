#!/usr/bin/env bats

# bats test_tags=slow
@test "whatever happens between laptop and machine, no checkpoint is ever here in part, and all arrive" {
  "$BATS_TEST_DIRNAME/../faults/run.sh" 0 200 --workers 4 3>&-
}
