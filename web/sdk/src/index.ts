/** Rooms of a Mafalda SFU in the browser. Begin with `joinRoom`. */

export { Closed, MafaldaError, Refused, Unavailable } from "./errors.js";
export { LocalDataPublication, RemoteDataSubscription, type DataMessage, type PublishDataOptions } from "./media/data.js";
export { LocalPublication, type PublishOptions, type Source } from "./media/publication.js";
export type { Quality } from "./media/quality.js";
export { RemoteSubscription } from "./media/subscription.js";
export type { BusOptions } from "./nats/bus.js";
export type { Speaker } from "./protocol/messages.js";
export { connect, joinRoom, Room, type AutoSubscribe, type Connection, type DataReceived, type JoinOptions, type RoomEvents } from "./room.js";
export type { PeerQuality, QualityChange } from "./session/connection-monitor.js";
export type { ResourceState } from "./session/resource.js";
export type { AppData, PeerInfo, ProducerInfo } from "./session/roster.js";
export type { SessionState } from "./session/session.js";
