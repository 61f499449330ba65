// SPDX-License-Identifier: GPL-2.0
/*
 * Exports what other modules written in Rust use of this one: the functions of shared.rs, by the names
 * that the compiler gave them. The list is made by Kbuild. There is no way yet to say so in Rust.
 */

#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
