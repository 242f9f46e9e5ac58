/* SPDX-License-Identifier: GPL-2.0-only */
#include "guest/linux/test/kernel.h"
