// Layout of the NAT region. Read by asc and by tsc, so: bare literals, no type annotations, no imports.
//
// NAT_BASE  ┌────────────────────────────────────┐
//           │ NAT_CAPACITY entries of 80 bytes   │ taken in ascending order, so untouched pages stay unmapped
// 0x7000000 ├────────────────────────────────────┤
//           │ inside index: bucket heads, u32    │ live entries, chained through ENTRY_INSIDE_NEXT
// 0x7200000 ├────────────────────────────────────┤
//           │ outside index: bucket heads, u32   │ live and expired entries, through ENTRY_OUTSIDE_NEXT
// 0x7400000 ├────────────────────────────────────┤
//           │ timing wheel: bucket heads, u32    │ live entries, through ENTRY_LIST_*
// 0x7408000 ├────────────────────────────────────┤
//           │ owners: list heads, u32            │ live and expired entries, through ENTRY_OWNER_*
// 0x740a000 ├────────────────────────────────────┤
//           │ hints of searches, 32 bytes each   │ see choose.ts
//           └────────────────────────────────────┘
// A link is the address of an entry, 0 = none.
export const NAT_INSIDE_HEADS = 0x7000000;
export const NAT_OUTSIDE_HEADS = 0x7200000;
export const NAT_WHEEL_HEADS = 0x7400000;
export const NAT_OWNER_HEADS = 0x7408000;
export const NAT_HINTS = 0x740a000;

/** 16 bytes each, network order; an IPv4 address fills the first 4 bytes, the rest is 0. */
export const ENTRY_PROXY_ADDRESS = 0;
export const ENTRY_REAL_ADDRESS = 16;
/** u16 in host order: port or echo identifier as the client sees it, and as the network sees it. */
export const ENTRY_INSIDE_VALUE = 32;
export const ENTRY_OUTSIDE_VALUE = 34;
/** u16 owner (peer id), u8 KIND_*, u8 IP version: compared as one u32. */
export const ENTRY_OWNER = 36;
export const ENTRY_KIND = 38;
export const ENTRY_VERSION = 39;
/** u8 STATE_*. */
export const ENTRY_STATE = 40;
/** u8 FLAG_*. */
export const ENTRY_FLAGS = 41;
/** u16: timing wheel bucket that holds the entry. */
export const ENTRY_BUCKET = 42;
/** u32: changes whenever the entry is removed. */
export const ENTRY_GENERATION = 44;
/** u32 ticks (milliseconds): last packet in either direction, last outgoing packet. */
export const ENTRY_PACKET_AT = 48;
export const ENTRY_OUTGOING_AT = 52;
export const ENTRY_INSIDE_NEXT = 56;
export const ENTRY_OUTSIDE_NEXT = 60;
/** Neighbours in the wheel bucket while live, in the list of expired keys while expired. */
export const ENTRY_LIST_NEXT = 64;
export const ENTRY_LIST_PREV = 68;
export const ENTRY_OWNER_NEXT = 72;
export const ENTRY_OWNER_PREV = 76;

export const STATE_FREE = 0;
export const STATE_LIVE = 1;
/** Removed, but its outside key is remembered (tunnel-core §14.4, quirk Q12). */
export const STATE_EXPIRED = 2;

/** A reply was seen. */
export const FLAG_CONFIRMED = 1;
export const FLAG_FIN_OUTGOING = 2;
export const FLAG_FIN_INCOMING = 4;
export const FLAG_FIN_BOTH = 6;
export const FLAG_RST = 8;
