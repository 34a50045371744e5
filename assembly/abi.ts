// The contract between the packet core and its host: memory map, record layouts, status codes.
// Read by asc and by tsc, so: bare literals, no type annotations, no imports.
// Every offset is in bytes from the start of linear memory; integers are little-endian unless a line says otherwise.

/** Raised whenever a layout or the meaning of an export changes. */
export const ABI_VERSION = 1;

// ── Memory map ──────────────────────────────────────────────────────────────────────────────────
// region            owner   what
// STATIC            core    AssemblyScript's static data (masks, scratch); below 64 KiB
// HOST_IO           host    free for hosts whose I/O structures must lie in linear memory; the core never looks
// BATCH             both    counts, cursors, descriptors, drop counters
// SLOTS             core    packets handed to the slow path, and scratch for building one packet
// TUN_IN            host    frames read from the TUN device, packed one behind the other
// UDP_IN            host    receive buffers, one train of datagrams each
// UDP_OUT           core    sealed trains, read by the host's socket
// TUN_OUT           core    frames for the TUN device, read by the host's write
// PEERS … NAT       core    tables
export const STATIC_BASE = 0x400;
export const STATIC_END = 0x10000;
export const HOST_IO_BASE = 0x10000;
export const HOST_IO_BYTES = 0x70000;
export const BATCH_BASE = 0x80000;
export const BATCH_BYTES = 0x20000;
export const SLOTS_BASE = 0xa0000;
export const SLOT_BYTES = 2048;
/** Room in front of a packet in its slot: the seal and open kernels use it as scratch. */
export const SLOT_HEADROOM = 64;
export const SLOT_COUNT = 272;
/** Slots 0 … SLOW_CAPACITY−1 hold slow-path packets, the rest is scratch of the core. */
export const SLOW_CAPACITY = 256;
/** Where the host puts the argument of an export: a packet to seal or to write, keys, addresses. Slot 256. */
export const ARGUMENT_BASE = 0x120040;
export const TUN_IN_BASE = 0x140000;
export const TUN_IN_BYTES = 0x100000;
export const UDP_IN_BASE = 0x240000;
export const UDP_IN_BUFFER_BYTES = 0x10000;
export const UDP_IN_BUFFERS = 32;
export const UDP_OUT_BASE = 0x440000;
export const UDP_OUT_BYTES = 0x100000;
export const TUN_OUT_BASE = 0x540000;
export const TUN_OUT_BYTES = 0x100000;
export const PEERS_BASE = 0x640000;
export const FILTERS_BASE = 0x680000;
export const FILTERS_BYTES = 0x180000;
export const KEYPAIRS_BASE = 0x800000;
export const FLOWS_BASE = 0x3800000;
export const NAT_BASE = 0x4800000;
export const NAT_BYTES = 0x3800000;
/** Size of the imported memory; initial equals maximum, so host views and addresses never move. */
export const MEMORY_BYTES = 0x8000000;
export const MEMORY_PAGES = 2048;

// ── Sizes ───────────────────────────────────────────────────────────────────────────────────────
/** TUN MTU and largest inner packet (tunnel-core §2.3). */
export const MAX_PACKET_BYTES = 1280;
/** Largest UDP payload sent or accepted: packet + WireGuard + channel data (connectivity §4.3). */
export const MAX_DATAGRAM_BYTES = 1316;
/** virtio_net_hdr in front of every TUN frame. */
export const VIRTIO_BYTES = 10;
export const WG_HEADER_BYTES = 16;
export const TAG_BYTES = 16;
export const CHACHA_STATE_BYTES = 64;
/** UDP_SEGMENT limits: kernels before 6.9 stop at 64 datagrams; payload is at most 65,507 bytes. */
export const TRAIN_MAX_SEGMENTS = 64;
export const TRAIN_MAX_BYTES = 65507;

// ── Batch block (BATCH_BASE + …) ────────────────────────────────────────────────────────────────
/** u32: frames in FRAME_IN descriptors, and the next one to process. The host sets count, and cursor to 0. */
export const FRAME_IN_COUNT = 0x80000;
export const FRAME_IN_CURSOR = 0x80004;
/** u32: receive buffers in DATAGRAM_IN descriptors, next one, and the byte offset reached inside it. */
export const DATAGRAM_IN_COUNT = 0x80008;
export const DATAGRAM_IN_CURSOR = 0x8000c;
export const DATAGRAM_IN_OFFSET = 0x80010;
/** u32: filled output descriptors; the host sets them to 0 once it consumed them. */
export const TRAIN_COUNT = 0x80014;
export const FRAME_OUT_COUNT = 0x80018;
export const SLOW_COUNT = 0x8001c;
/** u32: bytes used in UDP_OUT and TUN_OUT. */
export const UDP_OUT_USED = 0x80020;
export const TUN_OUT_USED = 0x80024;
/** u32: policy epoch that every flow is compared with. */
export const GLOBAL_EPOCH = 0x80028;
/** u32: entries in the list of touched peers. */
export const TOUCHED_COUNT = 0x8002c;
/** u32: nonzero while frames may be coalesced (TUN device accepts TSO and USO). */
export const COALESCE = 0x80030;

/** FRAME_IN: u32 offset of the virtio header, u32 length with it. */
export const FRAME_IN_BASE = 0x81000;
export const FRAME_IN_DESC_BYTES = 8;
export const FRAME_IN_CAPACITY = 256;
/** DATAGRAM_IN: u32 offset, u32 length, u32 segment length (0: one datagram), u32 ECN codepoint. */
export const DATAGRAM_IN_BASE = 0x82000;
export const DATAGRAM_IN_DESC_BYTES = 16;
/** TRAIN: u32 offset, u32 length, u32 segment length, u32 path, u32 ECN codepoint, u32 segments, u32 1 = closed, 4 spare. */
export const TRAIN_BASE = 0x83000;
export const TRAIN_DESC_BYTES = 32;
export const TRAIN_CAPACITY = 512;
/** FRAME_OUT: u32 offset of the virtio header, u32 length with it. */
export const FRAME_OUT_BASE = 0x88000;
export const FRAME_OUT_DESC_BYTES = 8;
export const FRAME_OUT_CAPACITY = 1024;
/** SLOW: u32 reason, u32 offset, u32 length, u32 peer, u32 input descriptor, u32 detail (see SLOW_*), 8 spare. */
export const SLOW_BASE = 0x8a000;
export const SLOW_DESC_BYTES = 32;
/** u16 peer ids of peers that became active since the list was drained. */
export const TOUCHED_BASE = 0x8e000;
/** u64 counters, one per DROP_* reason. */
export const DROPS_BASE = 0x90000;
export const DROP_REASONS = 48;

// ── Results of encapsulate and decapsulate ──────────────────────────────────────────────────────
/** All input consumed. */
export const BATCH_DONE = 0;
/** An output region is full: drain outputs and the slow path, then call again with the same cursors. */
export const BATCH_MORE = 1;

// ── Results of encapsulatePacket, deliverPacket, reinject, sealPacket and writeTun ──────────────
/** The packet is in an output region. */
export const PACKET_QUEUED = 0;
/** An output region is full: drain outputs, then call again; the packet is untouched. */
export const PACKET_FULL = 1;
/** No flow is installed for it; the packet is untouched. */
export const PACKET_MISS = 2;
/** The peer has no usable keypair or no path; the packet is untouched. */
export const PACKET_NO_KEYPAIR = 3;
/** Refused and counted. */
export const PACKET_DROPPED = 4;

// ── Slow-path reasons ───────────────────────────────────────────────────────────────────────────
/** Outbound packet (from TUN) whose flow is not known. */
export const SLOW_TUN_PACKET = 1;
/** Outbound packet whose flow is known but whose peer has no usable keypair or path; peer is set. */
export const SLOW_NO_KEYPAIR = 2;
/** Datagram that is not WireGuard data for a live keypair; offset points into UDP_IN. */
export const SLOW_DATAGRAM = 3;
/** Decrypted packet whose flow is not known, or control frame, or ICMP error; peer is set, detail is the outer ECN. */
export const SLOW_PEER_PACKET = 4;
/** First authenticated message on a keypair that we answered; peer is set, detail is its local index; no packet. */
export const SLOW_KEYPAIR_CONFIRMED = 5;

// ── Drop reasons (also in host/core/drop.ts) ────────────────────────────────────────────────────
export const DROP_NONE = 0;
export const DROP_MALFORMED = 1;
export const DROP_OVERSIZED = 2;
export const DROP_FRAGMENT = 3;
export const DROP_UNKNOWN_INDEX = 4;
export const DROP_REPLAYED = 5;
export const DROP_TOO_OLD = 6;
export const DROP_BAD_TAG = 7;
export const DROP_COUNTER_EXHAUSTED = 8;
export const DROP_NAT_EXPIRED = 9;
export const DROP_BAD_OFFLOAD = 10;
export const DROP_NO_PATH = 11;

// ── Peers ───────────────────────────────────────────────────────────────────────────────────────
export const PEER_CAPACITY = 2048;
export const PEER_BYTES = 128;
/** u32: 1 while the slot is in use. */
export const PEER_LIVE = 0;
/** u32: 1 + keypair id to send with, 0 = none. */
export const PEER_SEND_KEYPAIR = 4;
/** u32: path that its trains carry, 0 = none. */
export const PEER_PATH = 8;
/** u32: policy epoch of flows from and to this peer. */
export const PEER_EPOCH = 12;
/** u32 ticks (milliseconds, never 0 when set; 0 = not yet). Any authenticated message received. */
export const PEER_RECEIVED_AT = 16;
/** u32 tick: anything sealed. */
export const PEER_SENT_AT = 20;
/** u32 tick: first non-empty packet sealed since the last authenticated message received; 0 = none. */
export const PEER_UNANSWERED_SINCE = 24;
/** u32 tick: first non-empty packet received since the last message sealed; 0 = none. */
export const PEER_UNACKNOWLEDGED_SINCE = 28;
/** u32 tick: last non-empty packet in either direction. */
export const PEER_INNER_AT = 32;
/** u32: 1 while the peer is in the touched list. */
export const PEER_TOUCHED = 36;
/** u32 tick: last non-empty packet sealed. */
export const PEER_DATA_SENT_AT = 40;
/** u32 tick: last non-empty packet received. */
export const PEER_DATA_RECEIVED_AT = 44;
/** u64 counters of inner packets and bytes. */
export const PEER_TX_PACKETS = 48;
export const PEER_TX_BYTES = 56;
export const PEER_RX_PACKETS = 64;
export const PEER_RX_BYTES = 72;
/** u32: channel number of a relayed path (each datagram goes out as ChannelData), 0 = none. */
export const PEER_CHANNEL = 80;
/** ChannelData header in front of a data message: u16 channel number, u16 length, network order. */
export const CHANNEL_HEADER_BYTES = 4;
export const CHANNEL_FIRST = 0x4000;
export const CHANNEL_LAST = 0x4fff;

// ── Keypairs ────────────────────────────────────────────────────────────────────────────────────
// id = peer × 8 + (local index & 7); bits 8–18 of a local index are the peer id (connectivity §10.3).
export const KEYPAIRS_PER_PEER = 8;
export const KEYPAIR_CAPACITY = 16384;
export const KEYPAIR_BYTES = 2560;
/** u32 bits: 1 = receives, 2 = confirmed (a message was received on it, or we initiated it). */
export const KEYPAIR_FLAGS = 0;
export const KEYPAIR_RECEIVES = 1;
export const KEYPAIR_CONFIRMED = 2;
export const KEYPAIR_LOCAL_INDEX = 4;
export const KEYPAIR_REMOTE_INDEX = 8;
/** u64: counter of the next message to seal. */
export const KEYPAIR_SEND_COUNTER = 16;
/** 64-byte ChaCha20 state templates (constants, key, counter, nonce). */
export const KEYPAIR_SEND_STATE = 32;
export const KEYPAIR_RECEIVE_STATE = 96;
/** Replay slot: u64 highest counter, u64 1 once anything was accepted, then REPLAY_WORDS × u64 bitmap. */
export const KEYPAIR_REPLAY = 160;
export const REPLAY_WORDS = 256;
export const REPLAY_WINDOW = 8192;
export const REPLAY_SLOT_BYTES = 2064;
/** Sealing stops here (2^64 − 2^13 − 1, WireGuard paper §6.1); stored as two u32 halves. */
export const COUNTER_LIMIT_LOW = 0xffffdfff;
export const COUNTER_LIMIT_HIGH = 0xffffffff;

// ── Transport identity of a packet (tunnel-core §3.2) ───────────────────────────────────────────
export const KIND_OTHER = 0;
export const KIND_TCP = 1;
export const KIND_UDP = 2;
/** Echo request or reply, code 0; both "ports" are the identifier. */
export const KIND_ECHO = 3;
/** ICMP or ICMPv6 that is not an echo. */
export const KIND_ICMP = 4;

// ── Flows: exact match, 4-way set associative, replaced by age ──────────────────────────────────
export const FLOW_CAPACITY = 131072;
export const FLOW_WAYS = 4;
export const FLOW_BYTES = 128;
/** 16-byte addresses in network order; an IPv4 address fills the first 4 bytes, the rest is 0. */
export const FLOW_SOURCE = 0;
export const FLOW_DESTINATION = 16;
/** u16 source port or echo identifier, u16 destination port or 0; network order. */
export const FLOW_PORTS = 32;
/** u8 IP protocol number, u8 IP version (4 or 6; 0 = empty entry), u16 scope: FLOW_SCOPE_TUN or the peer it came from. */
export const FLOW_KEY = 36;
export const FLOW_SCOPE_TUN = 0xffff;
/** u32 epochs at installation. */
export const FLOW_GLOBAL_EPOCH = 40;
export const FLOW_PEER_EPOCH = 44;
/** u32 peer: the one it goes to (from TUN) or came from. */
export const FLOW_PEER = 48;
/** u32 REWRITE_* bits. */
export const FLOW_REWRITE = 52;
/** u32: 1 + NAT entry, 0 = none; and the generation that entry had. */
export const FLOW_NAT = 56;
export const FLOW_NAT_GENERATION = 60;
/** 16-byte address that replaces source or destination. */
export const FLOW_NEW_ADDRESS = 64;
/** u16 network order: port or identifier that replaces source or destination port. */
export const FLOW_NEW_PORT = 80;
/** u16 RFC 1624 deltas, as the core computes them at installation. */
export const FLOW_IP_DELTA = 82;
export const FLOW_L4_DELTA = 84;
export const FLOW_USED_AT = 88;
export const FLOW_PACKETS = 96;
export const FLOW_PAYLOAD_BYTES = 104;
/** Replace destination address and source port or identifier (gateway, towards the resource). */
export const REWRITE_OUTGOING = 1;
/** Replace source address and destination port or identifier (gateway, towards the client). */
export const REWRITE_INCOMING = 2;

// ── Filters (tunnel-core §15.1) ─────────────────────────────────────────────────────────────────
/** Set header: u32 first rule, u32 rule count. Set 0 permits everything. */
export const FILTER_SETS_BASE = 0x680000;
export const FILTER_SET_BYTES = 8;
export const FILTER_SET_CAPACITY = 16384;
/** Rule: u16 KIND_TCP, KIND_UDP or KIND_ICMP, u16 first port, u16 last port, u16 spare; host byte order. */
export const FILTER_RULES_BASE = 0x6a0000;
export const FILTER_RULE_BYTES = 8;
export const FILTER_RULE_CAPACITY = 131072;

// ── NAT (tunnel-core §14): entries, then two hash indexes; layout in assembly/nat ───────────────
export const NAT_CAPACITY = 524288;
export const NAT_ENTRY_BYTES = 80;
/** Results of natIncoming and natOutgoing besides an entry id ≥ 0. */
export const NAT_NONE = -1;
export const NAT_EXPIRED = -2;
export const NAT_EXHAUSTED = -3;
/** NAT time-to-live, milliseconds (tunnel-core §2.4, HEAD column). */
export const NAT_TTL_TCP_MS = 7440000;
export const NAT_TTL_UDP_MS = 120000;
export const NAT_TTL_UNCONFIRMED_MS = 60000;
export const NAT_TTL_FIN_MS = 5000;
