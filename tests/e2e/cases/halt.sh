# The bare-metal guest never sleeps over an interrupt that comes right before HLT.

host() {
  vmm_start --kernel="$E2E/images/halt.elf"
  hear '^vmsg-guest: halt '
  fact rounds "$(value rounds "$HEARD")"
  same 'interrupts that were slept over' "$(value slept-over "$HEARD")" 0
  same 'interrupts taken' "$(value taken "$HEARD")" "$(value rounds "$HEARD")"
  hear '^vmsg-guest: end '
  same 'end of the guest' "$(value result "$HEARD")" ok
  vmm_end
}
