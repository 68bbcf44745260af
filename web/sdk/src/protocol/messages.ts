// Generated from schemas/ by scripts/generate-types.mjs; do not edit.

/**
 * The RTP header extensions that mediasoup-worker 3.27.1 knows; it accepts no other.
 */
export type RtpHeaderExtensionUri = ("urn:ietf:params:rtp-hdrext:sdes:mid" | "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id" | "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" | "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time" | "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01" | "urn:ietf:params:rtp-hdrext:ssrc-audio-level" | "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension" | "urn:3gpp:video-orientation" | "urn:ietf:params:rtp-hdrext:toffset" | "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time" | "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay" | "urn:mediasoup:params:rtp-hdrext:packet-id")
/**
 * The digest of a DTLS certificate (RFC 8122).
 */
export type DtlsFingerprint = DtlsFingerprint1
/**
 * Send a track into the room.
 */
export type ProduceIntent = ProduceIntent1

/**
 * The data of each message, by the message's CloudEvents type.
 */
export interface MessageData {
"mafalda.answer.drain-status.v1": DrainStatusAnswer
"mafalda.answer.entries.v1": LogEntriesAnswer
"mafalda.answer.room.v1": RoomSnapshotAnswer
"mafalda.answer.scores.v1": ScoresAnswer
"mafalda.answer.speakers.v1": SpeakersAnswer
"mafalda.answer.statistics-taken.v1": StatisticsTakenAnswer
"mafalda.answer.stats.v1": StatsAnswer
"mafalda.answer.subscription.v1": SubscriptionSnapshotAnswer
"mafalda.event.consumer-closed.v1": ConsumerClosed
"mafalda.event.consumers-closed.v1": ConsumersClosed
"mafalda.event.consumers-opened.v1": ConsumersOpened
"mafalda.event.data-consumer-closed.v1": DataConsumerClosed
"mafalda.event.data-producer-closed.v1": DataProducerClosed
"mafalda.event.data-producer-opened.v1": DataProducerOpened
"mafalda.event.peer-demoted.v1": PeerDemoted
"mafalda.event.peer-joined.v1": PeerJoined
"mafalda.event.peer-left.v1": PeerLeft
"mafalda.event.peer-moved.v1": PeerMoved
"mafalda.event.peer-stranded.v1": PeerStranded
"mafalda.event.peer-updated.v1": PeerUpdated
"mafalda.event.producer-closed.v1": ProducerClosed
"mafalda.event.producer-layers-changed.v1": ProducerLayersChanged
"mafalda.event.producer-opened.v1": ProducerOpened
"mafalda.event.producer-paused.v1": ProducerPaused
"mafalda.event.producer-resumed.v1": ProducerResumed
"mafalda.event.relay-closed.v1": RelayClosed
"mafalda.event.relay-failed.v1": RelayFailed
"mafalda.event.relay-opened.v1": RelayOpened
"mafalda.event.relays-requested.v1": RelaysRequested
"mafalda.event.statistics-reported.v1": StatisticsReported
"mafalda.event.transport-closed.v1": TransportClosed
"mafalda.intent.apply-grants.v1": ApplyGrantsIntent
"mafalda.intent.batch.v1": IntentBatchIntent
"mafalda.intent.change-subscription.v1": ChangeSubscriptionIntent
"mafalda.intent.close-consumer.v1": CloseConsumerIntent
"mafalda.intent.close-data-consumer.v1": CloseDataConsumerIntent
"mafalda.intent.close-data-producer.v1": CloseDataProducerIntent
"mafalda.intent.close-producer.v1": CloseProducerIntent
"mafalda.intent.close-transport.v1": CloseTransportIntent
"mafalda.intent.connect-transport.v1": ConnectTransportIntent
"mafalda.intent.consume-data.v1": ConsumeDataIntent
"mafalda.intent.consume.v1": ConsumeIntent
"mafalda.intent.create-transport.v1": CreateTransportIntent
"mafalda.intent.end-room.v1": EndRoomIntent
"mafalda.intent.join.v1": JoinIntent
"mafalda.intent.leave.v1": LeaveIntent
"mafalda.intent.pause-consumer.v1": PauseConsumerIntent
"mafalda.intent.pause-producer.v1": PauseProducerIntent
"mafalda.intent.produce-data.v1": ProduceDataIntent
"mafalda.intent.produce.v1": ProduceIntent
"mafalda.intent.request-key-frame.v1": RequestKeyFrameIntent
"mafalda.intent.restart-ice.v1": RestartIceIntent
"mafalda.intent.resume-consumer.v1": ResumeConsumerIntent
"mafalda.intent.resume-producer.v1": ResumeProducerIntent
"mafalda.intent.set-app-data.v1": SetAppDataIntent
"mafalda.intent.set-audience.v1": SetAudienceIntent
"mafalda.intent.set-preferred-layers.v1": SetPreferredLayersIntent
"mafalda.intent.set-priority.v1": SetPriorityIntent
"mafalda.intent.subscribe.v1": SubscribeIntent
"mafalda.intent.unsubscribe.v1": UnsubscribeIntent
"mafalda.query.entries.v1": QueryEntries
"mafalda.query.report-statistics.v1": ReportStatistics
"mafalda.query.room.v1": QueryRoom
"mafalda.query.scores.v1": QueryScores
"mafalda.query.speakers.v1": QuerySpeakers
"mafalda.query.stats.v1": QueryStats
"mafalda.query.subscription.v1": QuerySubscription
"mafalda.query.transport.v1": QueryTransport
"mafalda.result.batch.v1": ResultBatchResult
"mafalda.result.consume-data.v1": ConsumeDataResult
"mafalda.result.consume.v1": ConsumeResult
"mafalda.result.done.v1": DoneResult
"mafalda.result.join.v1": JoinResult
"mafalda.result.produce-data.v1": ProduceDataResult
"mafalda.result.produce.v1": ProduceResult
"mafalda.result.rejected.v1": RejectedResult
"mafalda.result.subscribe.v1": SubscribeResult
"mafalda.result.transport.v1": TransportResult
}
/**
 * How far a server's drain is. drained: no peer is placed there, and none of those moved is still served.
 */
export interface DrainStatusAnswer {
server: string
state: ("up" | "draining" | "forcing" | "drained")
/**
 * Peers that are placed here.
 */
peers: number
/**
 * Peers that have another place, and are served here until their client moved.
 */
leaving: number
/**
 * Of those placed here, how many stay until the deadline (a drop-in's).
 */
unmovable: number
/**
 * Seconds until what is left is moved by force.
 */
deadlineInS?: number
}
/**
 * Log entries, or a page of them.
 */
export interface LogEntriesAnswer {
/**
 * All entries for the peer up to this log sequence are in this page or before it.
 */
seq: number
entries: LogEntry[]
/**
 * There may be more: ask again with seq as after.
 */
more?: boolean
}
/**
 * An entry of the log: what was published under live..
 */
export interface LogEntry {
seq: number
/**
 * Without live..
 */
subject: string
/**
 * The CloudEvents envelope.
 */
message: {
[k: string]: unknown
}
}
/**
 * A room without its audience, or a page of it, as of a log sequence. Room events with a greater sequence than the *first* page's come on top of all pages.
 */
export interface RoomSnapshotAnswer {
seq: number
peers: PeerInfo[]
producers: ProducerInfo[]
dataProducers: DataProducerInfo[]
/**
 * How many peers are audience.
 */
audience?: number
/**
 * There is more: ask again with this as after.
 */
next?: string
}
/**
 * A peer, as the others in its room may see it.
 */
export interface PeerInfo {
peer: string
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * A producer that can be consumed.
 */
export interface ProducerInfo {
producer: string
peer: string
mediaKind: ("audio" | "video")
paused: boolean
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * A data producer that can be consumed.
 */
export interface DataProducerInfo {
dataProducer: string
peer: string
label: string
protocol: string
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * mediasoup's scores, 0 (nothing arrives) to 10 (nothing is lost), by producer; 10 is left out. What is paused has no score: neither a producer, nor one whose consumer is paused.
 */
export interface ScoresAnswer {
/**
 * As the peer's own producers arrive at the worker: the best encoding's.
 */
sent: {
/**
 * This interface was referenced by `undefined`'s JSON-Schema definition
 * via the `patternProperty` "^[A-Za-z0-9_-]{1,64}$".
 */
[k: string]: number
}
/**
 * As others' producers arrive at their own workers.
 */
received: {
/**
 * This interface was referenced by `undefined`'s JSON-Schema definition
 * via the `patternProperty` "^[A-Za-z0-9_-]{1,64}$".
 */
[k: string]: number
}
}
/**
 * Who speaks in a room.
 */
export interface SpeakersAnswer {
room: string
/**
 * Loudest first; empty: nobody.
 * 
 * @maxItems 16
 */
speakers: Speaker[]
}
/**
 * A peer that speaks, by an audio producer of its own.
 */
export interface Speaker {
peer: string
producer: string
}
/**
 * The statistics were taken.
 */
export interface StatisticsTakenAnswer {
/**
 * How often the agent wants them, in seconds.
 */
intervalS: number
}
/**
 * mediasoup's statistics: one object each, in mediasoup's own shape.
 */
export interface StatsAnswer {
stats: {
[k: string]: unknown
}[]
}
/**
 * A subscription's consumers, as ConsumersOpened tells them; formats has all that they refer to.
 */
export interface SubscriptionSnapshotAnswer {
subscription: string
generation: number
/**
 * Of its newest consumers; absent without any.
 */
transport?: string
consumers: SubscribedConsumer[]
formats: ConsumerFormat[]
}
/**
 * A consumer or data consumer that was made for a subscription. The RTP parameters of a consumer are codecs and headerExtensions of its format with mid, encodings and rtcp as they are here.
 */
export interface SubscribedConsumer {
consumer: string
producer: string
kind: ("audio" | "video" | "data")
/**
 * Absent for data.
 */
type?: ("simple" | "simulcast" | "svc" | "pipe")
/**
 * Absent for data.
 */
format?: number
mid?: string
encodings?: RtpEncodingParameters[]
rtcp?: RtcpParameters
msid?: string
paused?: boolean
producerPaused?: boolean
relayed?: boolean
sctpStreamParameters?: SctpStreamParameters
/**
 * For data only.
 */
label?: string
/**
 * For data only.
 */
protocol?: string
}
/**
 * One RTP stream of a producer or consumer, such as a simulcast layer.
 */
export interface RtpEncodingParameters {
ssrc?: number
/**
 * RTP stream id, unique within the parameters.
 */
rid?: string
/**
 * Payload type of this encoding's codec; absent is the first media codec.
 */
codecPayloadType?: number
rtx?: RtxParameters
/**
 * Whether the stream may pause by itself; absent is the same as false.
 */
dtx?: boolean
/**
 * Spatial and temporal layers, such as 'L1T3' or 'L3T3_KEY'.
 */
scalabilityMode?: string
scaleResolutionDownBy?: number
/**
 * Greatest bit rate of the stream, in bits per second.
 */
maxBitrate?: number
}
/**
 * The retransmission stream of an encoding.
 */
export interface RtxParameters {
ssrc: number
}
/**
 * RTCP settings of RTP parameters.
 */
export interface RtcpParameters {
cname?: string
reducedSize?: boolean
}
/**
 * For data only.
 */
export interface SctpStreamParameters {
streamId: number
/**
 * Absent: true, unless a limit is given.
 */
ordered?: boolean
/**
 * Milliseconds after which a message is sent no more.
 */
maxPacketLifeTime?: number
/**
 * How often a message is sent again.
 */
maxRetransmits?: number
}
/**
 * What the RTP parameters of several consumers have in common; format is its number at the peer's place.
 */
export interface ConsumerFormat {
format: number
codecs: RtpCodecParameters[]
headerExtensions?: RtpHeaderExtensionParameters[]
}
/**
 * A codec in use, with its payload type.
 */
export interface RtpCodecParameters {
/**
 * Media type and subtype, such as 'audio/opus' or 'video/VP8'.
 */
mimeType: string
/**
 * Hertz.
 */
clockRate: number
/**
 * Audio channels; 1 when left out. Never set for video.
 */
channels?: number
/**
 * Codec specific; some decide whether two codecs match.
 */
parameters?: {
[k: string]: string | number | boolean | null
}
/**
 * @maxItems 64
 */
rtcpFeedback?: RtcpFeedback[]
/**
 * RTP payload type, unique within the parameters.
 */
payloadType: number
}
/**
 * One RTCP feedback message that a codec uses, such as nack or nack pli.
 */
export interface RtcpFeedback {
type: string
parameter?: string
}
/**
 * An RTP header extension in use.
 */
export interface RtpHeaderExtensionParameters {
uri: RtpHeaderExtensionUri
id: number
encrypt?: boolean
parameters?: {
[k: string]: string | number | boolean | null
}
}
/**
 * A consumer ended without its client asking.
 */
export interface ConsumerClosed {
consumer: string
producer: string
generation: number
reason: ("closed" | "transport-closed" | "producer-closed" | "peer-left" | "peer-moved" | "worker-died")
}
/**
 * Consumers of a subscription ended, because it does not want their producers any more.
 */
export interface ConsumersClosed {
subscription: string
generation: number
consumers: string[]
}
/**
 * Consumers were made for a subscription, or could not be made. A producer has one consumer in a subscription: the one that was named last. A consumer ends with its producer, or the transport, and nothing more is said of it.
 */
export interface ConsumersOpened {
subscription: string
transport: string
generation: number
consumers: SubscribedConsumer[]
/**
 * Those that no earlier one of this subscription and place has.
 */
formats?: ConsumerFormat[]
/**
 * Producers that cannot be consumed; tried again when they are opened again.
 */
failed?: ConsumeFailure[]
}
/**
 * A producer that a subscription wants and that cannot be consumed.
 */
export interface ConsumeFailure {
producer: string
error: ErrorInfo
}
/**
 * An error on the wire.
 */
export interface ErrorInfo {
code: string
message: string
details?: {
[k: string]: unknown
}
}
/**
 * A data consumer ended without its client asking.
 */
export interface DataConsumerClosed {
dataConsumer: string
dataProducer: string
generation: number
reason: ("closed" | "transport-closed" | "producer-closed" | "peer-left" | "peer-moved" | "worker-died")
}
/**
 * A data producer ended, and all its data consumers with it.
 */
export interface DataProducerClosed {
peer: string
dataProducer: string
generation: number
reason: ("closed" | "transport-closed" | "producer-closed" | "peer-left" | "peer-moved" | "worker-died")
error?: ErrorInfo1
}
/**
 * An error on the wire.
 */
export interface ErrorInfo1 {
code: string
message: string
details?: {
[k: string]: unknown
}
}
/**
 * Data messages can be consumed.
 */
export interface DataProducerOpened {
peer: string
dataProducer: string
transport: string
server: string
worker: string
generation: number
sctpStreamParameters: SctpStreamParameters1
label?: string
protocol?: string
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * How reliable an SCTP stream is. At most one of the two limits, and only when it is not ordered.
 */
export interface SctpStreamParameters1 {
streamId: number
/**
 * Absent: true, unless a limit is given.
 */
ordered?: boolean
/**
 * Milliseconds after which a message is sent no more.
 */
maxPacketLifeTime?: number
/**
 * How often a message is sent again.
 */
maxRetransmits?: number
}
/**
 * A peer is of the room's audience from now on: it sends nothing, and the room is not told of it any more.
 */
export interface PeerDemoted {
peer: string
generation: number
}
/**
 * A peer is in the room, on its first place; or it is no longer of the room's audience.
 */
export interface PeerJoined {
peer: string
server: string
worker: string
generation: number
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
/**
 * As in the join; then it is a peer event, not a room event.
 */
audience?: boolean
}
/**
 * A peer is not in the room any more, and nothing of it is.
 */
export interface PeerLeft {
peer: string
generation: number
reason?: ("left" | "timed-out" | "evicted")
/**
 * With the reason `left`: why, if it was not the peer itself that wanted it; as in the leave.
 */
cause?: ("removed" | "room-ended" | "revoked")
}
/**
 * The peer has a new place; everything that it had on the old one is gone or about to go. Its client reconnects.
 */
export interface PeerMoved {
peer: string
server: string
worker: string
generation: number
cause: ("join" | "worker-died" | "server-lost" | "server-restarted" | "drain")
/**
 * As in the command: the former place goes on forwarding for a while.
 */
handover?: boolean
}
/**
 * The peer's place is gone and there is no other now; it is placed as soon as there is one.
 */
export interface PeerStranded {
peer: string
generation: number
error: ErrorInfo
}
/**
 * A peer has other application data; of a peer of the audience the room is not told.
 */
export interface PeerUpdated {
peer: string
generation: number
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * A producer ended, and all its consumers with it.
 */
export interface ProducerClosed {
peer: string
producer: string
generation: number
reason: ("closed" | "transport-closed" | "producer-closed" | "peer-left" | "peer-moved" | "worker-died")
error?: ErrorInfo2
}
/**
 * An error on the wire.
 */
export interface ErrorInfo2 {
code: string
message: string
details?: {
[k: string]: unknown
}
}
/**
 * The highest spatial layer of a producer that anybody receives is another one; its client may send no more. Published if produce asks for it. A new producer begins with all its layers.
 */
export interface ProducerLayersChanged {
producer: string
generation: number
/**
 * Absent: nobody receives the producer.
 */
spatialLayer?: number
}
/**
 * A track can be consumed.
 */
export interface ProducerOpened {
peer: string
producer: string
transport: string
server: string
worker: string
generation: number
mediaKind: ("audio" | "video")
type: ("simple" | "simulcast" | "svc")
paused?: boolean
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * A producer sends nothing for a while.
 */
export interface ProducerPaused {
peer: string
producer: string
/**
 * The peer that muted it, if not its owner; as in the intent.
 */
by?: string
}
/**
 * A producer sends again.
 */
export interface ProducerResumed {
peer: string
producer: string
}
/**
 * A producer is not relayed to the target worker any more; what consumed it there ended.
 */
export interface RelayClosed {
producer: string
data: boolean
source: Place
target: Place
reason: ("producer-closed" | "unused" | "source-died" | "target-died" | "failed")
}
/**
 * One worker of one server.
 */
export interface Place {
server: string
worker: string
}
/**
 * A relay could not be opened; the consumes that waited for it are rejected.
 */
export interface RelayFailed {
producer: string
data: boolean
source: Place
target: Place
error: ErrorInfo
}
/**
 * A producer can now be consumed on the target worker, under its own id.
 */
export interface RelayOpened {
producer: string
data: boolean
source: Place
target: Place
}
/**
 * Subscriptions of peers on a worker want producers that are on other workers.
 */
export interface RelaysRequested {
server: string
incarnation: string
worker: string
room: string
producers: string[]
}
/**
 * What a peer's client measured, with what its worker knew at that time. Appended if the client reports statistics: when they differ much from those before, and at intervals.
 */
export interface StatisticsReported {
generation: number
server: string
worker: string
/**
 * Over which it was measured.
 */
intervalS: number
ways: WayStatistics[]
cause: ("interval" | "changed")
/**
 * 0 to 10, of what the peer sends as it arrives at the worker, by producer.
 */
scores?: {
/**
 * This interface was referenced by `undefined`'s JSON-Schema definition
 * via the `patternProperty` "^[A-Za-z0-9_-]{1,64}$".
 */
[k: string]: number
}
/**
 * The spatial layers of what the worker sends to the peer, by producer.
 */
layers?: {
/**
 * This interface was referenced by `undefined`'s JSON-Schema definition
 * via the `patternProperty` "^[A-Za-z0-9_-]{1,64}$".
 */
[k: string]: number
}
}
/**
 * One way: the streams on it together, and the largest of them.
 */
export interface WayStatistics {
way: ("up" | "down")
/**
 * By docs/protocol.md#connection-quality.
 */
quality: ("excellent" | "good" | "poor" | "lost")
bitrateBps: number
/**
 * Packets lost on the way, of those sent; what is sent again was lost once.
 */
lossRatio?: number
/**
 * The greatest of its streams.
 */
jitterMs?: number
roundTripMs?: number
/**
 * Of the way up: the client's own estimate.
 */
availableOutgoingBps?: number
/**
 * Those with the highest bitrates.
 * 
 * @maxItems 16
 */
streams?: StreamStatistics[]
}
/**
 * One producer on a way: sent, or received by a consumer.
 */
export interface StreamStatistics {
producer: string
mediaKind: ("audio" | "video")
/**
 * Of all its encodings together.
 */
bitrateBps?: number
/**
 * Packets lost on the way, of those sent; what is sent again was lost once.
 */
lossRatio?: number
jitterMs?: number
framesPerSecond?: number
/**
 * Pixels; of what is sent in several resolutions the highest that is sent.
 */
width?: number
height?: number
/**
 * Of a video that is sent: how many of its encodings are active.
 */
encodings?: number
/**
 * Of a video that is sent.
 */
limitation?: ("none" | "cpu" | "bandwidth" | "other")
/**
 * Of a video that is received: freezes in the interval.
 */
freezes?: number
}
/**
 * A transport ended without its client asking: ICE or DTLS failed for good.
 */
export interface TransportClosed {
transport: string
generation: number
reason: ("ice-failed" | "dtls-failed" | "dtls-closed" | "timed-out")
}
/**
 * Close what the peer's present grants do not permit: producers, data producers, subscriptions, consumers. The auth service publishes it when it has changed the grants. Answered by Done.
 */
export interface ApplyGrantsIntent {

}
/**
 * Several intents in one message: done in order, each for itself, answered by ResultBatch. join, leave, end-room and apply-grants are never in one. An intent that is answered later than the others, such as a consume that waits for a relay, has a result message of its own. A batch that is refused as a whole (rejected, whose causationid is the batch's id) is refused for each intent that is in it.
 */
export interface IntentBatchIntent {
/**
 * @minItems 1
 * @maxItems 128
 */
items: BatchedIntent[]
}
/**
 * One intent of a batch.
 */
export interface BatchedIntent {
/**
 * As of a message: an intent that comes again has the same id, and is done once.
 */
id: string
/**
 * mafalda.intent.{action}.v{version}.
 */
type: string
/**
 * As of a message of this type.
 */
data: {

}
}
/**
 * Receive more of the room, or less, by a subscription that stands. Answered as subscribe.
 */
export interface ChangeSubscriptionIntent {
subscription: string
/**
 * Received from now on.
 * 
 * @maxItems 1024
 */
add?: ProducerSelector[]
/**
 * Not received any more.
 * 
 * @maxItems 1024
 */
remove?: ProducerSelector[]
}
/**
 * Fits the producers of other peers that have every field which is given; without any field all of them.
 */
export interface ProducerSelector {
kind?: ("audio" | "video" | "data")
peer?: string
producer?: string
/**
 * What fits is not received.
 */
exclude?: boolean
}
/**
 * Receive a producer no more. Answered by Done.
 */
export interface CloseConsumerIntent {
consumer: string
}
/**
 * Receive a data producer no more. Answered by Done.
 */
export interface CloseDataConsumerIntent {
dataConsumer: string
}
/**
 * End a data producer and all its data consumers. Answered by Done.
 */
export interface CloseDataProducerIntent {
dataProducer: string
}
/**
 * End a producer and all its consumers. Answered by Done.
 */
export interface CloseProducerIntent {
producer: string
}
/**
 * Close a transport and all that it carries.
 */
export interface CloseTransportIntent {
transport: string
}
/**
 * Give the client's DTLS parameters to a transport.
 */
export interface ConnectTransportIntent {
transport: string
dtlsParameters: DtlsParameters
}
/**
 * The DTLS side of a WebRTC transport.
 */
export interface DtlsParameters {
role?: ("auto" | "client" | "server")
/**
 * @minItems 1
 * @maxItems 16
 */
fingerprints: DtlsFingerprint[]
}
export interface DtlsFingerprint1 {
algorithm: ("sha-1" | "sha-224" | "sha-256" | "sha-384" | "sha-512")
/**
 * Hexadecimal bytes joined by colons, as many as the algorithm gives. Accepted in any case, and given on in upper case.
 */
value: string
}
/**
 * Receive a data producer of the room, wherever it is.
 */
export interface ConsumeDataIntent {
dataConsumer: string
transport: string
dataProducer: string
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * Receive a producer of the room, wherever it is.
 */
export interface ConsumeIntent {
consumer: string
transport: string
producer: string
rtpCapabilities: RtpCapabilities
/**
 * mediasoup's advice: start paused, resume when the client is ready.
 */
paused?: boolean
preferredLayers?: ConsumerLayers
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * What the client can receive, kept with the transport; `{}`: those that the transport has already.
 */
export interface RtpCapabilities {
/**
 * @maxItems 256
 */
codecs?: RtpCodecCapability[]
/**
 * @maxItems 256
 */
headerExtensions?: RtpHeaderExtension[]
}
/**
 * A codec that an endpoint or a router can receive, or that a router is asked to have.
 */
export interface RtpCodecCapability {
/**
 * Media type and subtype, such as 'audio/opus' or 'video/VP8'.
 */
mimeType: string
/**
 * Hertz.
 */
clockRate: number
/**
 * Audio channels; 1 when left out. Never set for video.
 */
channels?: number
/**
 * Codec specific; some decide whether two codecs match.
 */
parameters?: {
[k: string]: string | number | boolean | null
}
/**
 * @maxItems 64
 */
rtcpFeedback?: RtcpFeedback[]
/**
 * Always the media type of mimeType, which wins where they differ and counts where this is absent.
 */
kind?: ("audio" | "video")
/**
 * Wanted RTP payload type; absent lets the router choose a dynamic one.
 */
preferredPayloadType?: number
}
/**
 * An RTP header extension that an endpoint or a router supports. No worker need know its URI.
 */
export interface RtpHeaderExtension {
kind: ("audio" | "video")
uri: string
preferredId: number
preferredEncrypt?: boolean
/**
 * Seen from the router; ignored in an endpoint's capabilities.
 */
direction?: ("sendrecv" | "sendonly" | "recvonly" | "inactive")
}
/**
 * Spatial and temporal layer of a simulcast or SVC consumer, each from 0.
 */
export interface ConsumerLayers {
spatialLayer: number
/**
 * Absent is the highest one.
 */
temporalLayer?: number
}
/**
 * Open a WebRtcTransport on the peer's worker. ICE and DTLS parameters come to the inbox named by the header Mafalda-Reply-To; the stored result is the same without the ICE password.
 */
export interface CreateTransportIntent {
transport: string
direction?: ("send" | "receive" | "both")
enableTcp?: boolean
preferTcp?: boolean
enableSctp?: boolean
numSctpStreams?: NumSctpStreams
/**
 * Bytes.
 */
maxSctpMessageSize?: number
/**
 * Bits per second.
 */
initialAvailableOutgoingBitrate?: number
rtpCapabilities?: RtpCapabilities1
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * Numbers of SCTP streams.
 */
export interface NumSctpStreams {
/**
 * Outgoing streams at first.
 */
OS: number
/**
 * Greatest number of incoming streams.
 */
MIS: number
}
/**
 * What the client can receive; kept with the transport, for subscriptions and consumes on it.
 */
export interface RtpCapabilities1 {
/**
 * @maxItems 256
 */
codecs?: RtpCodecCapability[]
/**
 * @maxItems 256
 */
headerExtensions?: RtpHeaderExtension[]
}
/**
 * Remove every peer that has joined the room before, or requested to. A later join opens the room again. On the subject of whoever wants it, who need not be in the room: of the moderator, or under any peer id. Answered by Done as soon as a leave with the cause room-ended is stored for each peer.
 */
export interface EndRoomIntent {

}
/**
 * Become a peer of the room. The only intent that needs no placement to exist already.
 */
export interface JoinIntent {
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
/**
 * Where the peer is; a policy may prefer servers near it.
 */
region?: string
/**
 * The peer is a single transport, as a drop-in's peers are: less is expected of it.
 */
oneTransport?: boolean
/**
 * Of several applications on one fleet, the one that the room is of. A room is its first peer's tenant's: peers of another one, or of none, are refused.
 */
tenant?: string
/**
 * The peer only receives, and is not announced one by one: the room's peers are told nothing of it, and its own events come on its peer's subject.
 */
audience?: boolean
/**
 * A peer of the room that belongs together with this one: placed on its worker if possible.
 */
beside?: string
/**
 * The place is wanted ahead, before there is anything to open: what a peer is expected to cost stays reserved until it opens something. If it has requested nothing for so many seconds, or for as long as any idle peer may stay, it leaves.
 */
leaseS?: number
}
/**
 * Stop being a peer; everything the peer owns is closed.
 */
export interface LeaveIntent {
/**
 * Why, if somebody else wants it; the room is told.
 */
cause?: ("removed" | "room-ended" | "revoked")
}
/**
 * Receive nothing of a producer for a while. Answered by Done.
 */
export interface PauseConsumerIntent {
consumer: string
}
/**
 * Send nothing for a while; consumers are notified. Answered by Done.
 */
export interface PauseProducerIntent {
producer: string
/**
 * The peer that wants it, if not the owner: a moderator. The room is told.
 */
by?: string
}
/**
 * Send data messages into the room.
 */
export interface ProduceDataIntent {
dataProducer: string
transport: string
sctpStreamParameters: SctpStreamParameters1
label?: string
protocol?: string
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
export interface ProduceIntent1 {
producer: string
transport: string
mediaKind: ("audio" | "video")
rtpParameters: RtpParameters
paused?: boolean
/**
 * Milliseconds; absent: at once.
 */
keyFrameRequestDelayMs?: number
/**
 * Of a video: tell with `producer-layers-changed` which layers anybody receives.
 */
reportLayers?: boolean
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * What an endpoint sends (a producer's parameters), or what is sent to it (a consumer's).
 */
export interface RtpParameters {
mid?: string
/**
 * @maxItems 64
 */
codecs: RtpCodecParameters[]
/**
 * @maxItems 64
 */
headerExtensions?: RtpHeaderExtensionParameters[]
/**
 * @maxItems 32
 */
encodings?: RtpEncodingParameters[]
rtcp?: RtcpParameters
/**
 * Media stream identification (RFC 8830).
 */
msid?: string
}
/**
 * Ask a video consumer's producer for a key frame. Answered by Done.
 */
export interface RequestKeyFrameIntent {
consumer: string
}
/**
 * New ICE credentials for a transport; they come to the inbox, as at its creation.
 */
export interface RestartIceIntent {
transport: string
}
/**
 * Receive a producer, at first or again. Answered by Done.
 */
export interface ResumeConsumerIntent {
consumer: string
}
/**
 * Send again after a pause. Answered by Done.
 */
export interface ResumeProducerIntent {
producer: string
}
/**
 * Replace the peer's application data. The room is told by PeerUpdated. Answered by Done.
 */
export interface SetAppDataIntent {
/**
 * The application's own data; carried, never read. At most 16384 bytes of JSON, 32 levels deep.
 */
appData?: {
[k: string]: unknown
}
}
/**
 * Become one of the room's audience, which closes what the peer sends, or stop being one, to be able to send. Answered by Done. The room is told as if the peer left or joined. Nothing happens if the peer is that already.
 */
export interface SetAudienceIntent {
audience: boolean
}
/**
 * Choose the highest simulcast or SVC layers that a consumer should get.
 */
export interface SetPreferredLayersIntent {
consumer: string
spatialLayer: number
temporalLayer?: number
}
/**
 * Who gets bitrate first, among the consumers of one transport.
 */
export interface SetPriorityIntent {
consumer: string
priority: number
}
/**
 * Receive every producer that the subscription selects, those that are there and those that come. The peer's agent makes the consumers as soon as there is a transport for them, and says so in batches (ConsumersOpened). A subscription lasts until unsubscribe or leave, also at the peer's next place. With the id of an earlier one it replaces that; consumers that it still wants stay as they are. All subscriptions of a peer have at most 1024 selectors; each further subscription counts as one.
 */
export interface SubscribeIntent {
subscription: string
/**
 * The last selector that fits a producer decides whether it is received; absent: everything is.
 * 
 * @maxItems 1024
 */
select?: ProducerSelector[]
/**
 * The transport of its consumers; absent: the peer's newest whose direction is not `send`.
 */
transport?: string
/**
 * Its consumers begin paused.
 */
paused?: boolean
preferredLayers?: ConsumerLayers1
/**
 * Of the audio that is selected only so many producers flow: the loudest of the room. Those that a selector names by `producer` flow besides, whether they are loud or not.
 */
loudest?: number
rtpCapabilities?: RtpCapabilities2
}
/**
 * Spatial and temporal layer of a simulcast or SVC consumer, each from 0.
 */
export interface ConsumerLayers1 {
spatialLayer: number
/**
 * Absent is the highest one.
 */
temporalLayer?: number
}
/**
 * What the client can receive; kept with the transport. Absent: those that it has already.
 */
export interface RtpCapabilities2 {
/**
 * @maxItems 256
 */
codecs?: RtpCodecCapability[]
/**
 * @maxItems 256
 */
headerExtensions?: RtpHeaderExtension[]
}
/**
 * End a subscription and all its consumers. Answered by Done.
 */
export interface UnsubscribeIntent {
subscription: string
}
/**
 * The log entries for the peer after a sequence, for a client that may have missed some. Its results, its peer events and, if it may see the roster, the room's events, in log order. Any agent answers, also for a peer that has no place (any more).
 */
export interface QueryEntries {
/**
 * A log sequence: of the last entry that the client knows.
 */
after: number
}
/**
 * What the client measured since its last report; answered by StatisticsTaken. The agent keeps the last report of each peer, and appends StatisticsReported when it differs much from the one that was appended before, and at intervals.
 */
export interface ReportStatistics {
/**
 * Of the place where it was measured.
 */
generation: number
/**
 * Over which it was measured.
 */
intervalS: number
/**
 * @minItems 1
 * @maxItems 2
 */
ways: WayStatistics[]
}
/**
 * The room's peers and producers. A large room comes in pages.
 */
export interface QueryRoom {
/**
 * Where the page before ended (its next).
 */
after?: string
/**
 * The peers of the audience, instead of the other peers and producers.
 */
audience?: boolean
}
/**
 * The scores of what the peer sends and receives.
 */
export interface QueryScores {

}
/**
 * Who speaks in the room, loudest first; and for 60 s from now on, each change of that to an inbox.
 */
export interface QuerySpeakers {
/**
 * Of the asker's own; Speakers come there, unasked.
 */
inbox: string
}
/**
 * mediasoup's own statistics of one object of the asker's.
 */
export interface QueryStats {
target: ("transport" | "producer" | "consumer" | "data-producer" | "data-consumer")
id: string
}
/**
 * The consumers of a subscription as they are now, for a client that may have missed events.
 */
export interface QuerySubscription {
subscription: string
}
/**
 * A transport's parameters again, with its ICE password; answered by TransportResult.
 */
export interface QueryTransport {
transport: string
}
/**
 * The results of intents that came in one batch, in the order of the intents.
 */
export interface ResultBatchResult {
/**
 * @minItems 1
 * @maxItems 128
 */
items: BatchedResult[]
}
/**
 * One result of a batch.
 */
export interface BatchedResult {
/**
 * The action of the intent that it answers.
 */
intent: string
/**
 * The id of the intent that it answers.
 */
causationid: string
/**
 * mafalda.result.{action}.v{version}.
 */
type: string
/**
 * As of a message of this type.
 */
data: {

}
}
/**
 * A data consumer is open; relayed if its data producer is on another worker.
 */
export interface ConsumeDataResult {
dataConsumer: string
dataProducer: string
transport: string
generation: number
sctpStreamParameters: SctpStreamParameters1
label: string
protocol: string
relayed: boolean
}
/**
 * A consumer is open; relayed if its producer is on another worker.
 */
export interface ConsumeResult {
consumer: string
producer: string
transport: string
generation: number
mediaKind: ("audio" | "video")
type: ("simple" | "simulcast" | "svc" | "pipe")
rtpParameters: RtpParameters
paused: boolean
producerPaused: boolean
relayed: boolean
score?: ConsumerScore
}
/**
 * Quality of a consumer's stream and of the producer's streams behind it, each from 0 to 10.
 */
export interface ConsumerScore {
score: number
producerScore: number
/**
 * @maxItems 32
 */
producerScores: number[]
}
/**
 * The intent is done, without further data. target is the id of what the intent was about.
 */
export interface DoneResult {
intent: string
target?: string
generation: number
}
/**
 * The peer has a place. generation grows with each re-placement.
 */
export interface JoinResult {
server: string
worker: string
generation: number
routerRtpCapabilities: RtpCapabilities3
/**
 * The former place goes on forwarding for a while; see peer-moved.
 */
handover?: boolean
}
/**
 * What an endpoint or a router can receive at media level.
 */
export interface RtpCapabilities3 {
/**
 * @maxItems 256
 */
codecs?: RtpCodecCapability[]
/**
 * @maxItems 256
 */
headerExtensions?: RtpHeaderExtension[]
}
/**
 * A data producer is open.
 */
export interface ProduceDataResult {
dataProducer: string
transport: string
generation: number
}
/**
 * A producer is open.
 */
export interface ProduceResult {
producer: string
transport: string
generation: number
type: ("simple" | "simulcast" | "svc")
}
/**
 * The intent is refused. intent is its action; the error has the reason.
 */
export interface RejectedResult {
intent: string
error: ErrorInfo
}
/**
 * The subscription as it stands; its consumers come as ConsumersOpened.
 */
export interface SubscribeResult {
subscription: string
/**
 * The last selector that fits a producer decides whether it is received; absent: everything is.
 * 
 * @maxItems 1024
 */
select?: ProducerSelector[]
/**
 * The transport of its consumers; absent: the peer's newest whose direction is not `send`.
 */
transport?: string
/**
 * Its consumers begin paused.
 */
paused?: boolean
preferredLayers?: ConsumerLayers2
/**
 * Of the audio that is selected only so many producers flow: the loudest of the room. Those that a selector names by `producer` flow besides, whether they are loud or not.
 */
loudest?: number
generation: number
}
/**
 * Spatial and temporal layer of a simulcast or SVC consumer, each from 0.
 */
export interface ConsumerLayers2 {
spatialLayer: number
/**
 * Absent is the highest one.
 */
temporalLayer?: number
}
/**
 * A WebRtcTransport as its client needs it; also the answer to restart-ice and to the query.
 */
export interface TransportResult {
transport: string
generation: number
iceParameters?: IceParameters
iceCandidates: IceCandidate[]
dtlsParameters: DtlsParameters
sctpParameters?: SctpParameters
}
/**
 * Absent from the log: it holds the ICE password.
 */
export interface IceParameters {
usernameFragment: string
password: string
iceLite?: boolean
}
/**
 * An address under which a WebRTC transport can be reached.
 */
export interface IceCandidate {
foundation: string
priority: number
/**
 * IP address or host name; the older name of 'address'.
 */
ip: string
/**
 * IP address or host name.
 */
address?: string
protocol: ("udp" | "tcp")
port: number
type: ("host" | "srflx" | "prflx" | "relay")
tcpType?: ("active" | "passive" | "so")
}
/**
 * The SCTP association of a transport.
 */
export interface SctpParameters {
port: number
/**
 * Outgoing streams at first.
 */
OS: number
/**
 * Greatest number of incoming streams.
 */
MIS: number
/**
 * Bytes; the same as 'maxReceiveMessageSize'.
 */
maxMessageSize: number
/**
 * Bytes.
 */
maxSendMessageSize?: number
/**
 * Bytes.
 */
maxReceiveMessageSize?: number
/**
 * Bytes.
 */
sendBufferSize?: number
/**
 * Bytes.
 */
perStreamSendQueueLimit?: number
/**
 * Bytes.
 */
maxReceiverWindowBufferSize?: number
isDataChannel?: boolean
}
