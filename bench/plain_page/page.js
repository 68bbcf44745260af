/** A lobby with a preview; on a click it joins, receives all that is in the room, and sends its camera and microphone. */

import { Device } from "mediasoup-client";

const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 180, frameRate: 15 } });
document.getElementById("preview").srcObject = new MediaStream(media.getVideoTracks());
const button = document.getElementById("join");
button.addEventListener("click", () => void join());
button.disabled = false;

async function join() {
  const signalling = await connect();
  const { routerRtpCapabilities, producers } = await signalling.ask("join");
  const device = await Device.factory();
  await device.load({ routerRtpCapabilities });
  const [sending, receiving] = await Promise.all(["send", "receive"].map((direction) => openTransport(signalling, device, direction)));
  signalling.onAdded = (producer) => void receive(signalling, device, receiving, producer);
  await Promise.all([...producers.map((producer) => receive(signalling, device, receiving, producer)), ...media.getTracks().map((track) => sending.produce({ track }))]);
  document.body.dataset.state = "joined";
}

async function openTransport(signalling, device, direction) {
  const options = await signalling.ask("createTransport", {});
  const transport = direction === "send" ? device.createSendTransport(options) : device.createRecvTransport(options);
  transport.on("connect", ({ dtlsParameters }, done, fail) => signalling.ask("connect", { transport: transport.id, dtlsParameters }).then(done, fail));
  transport.on("produce", ({ kind, rtpParameters }, done, fail) => signalling.ask("produce", { transport: transport.id, kind, rtpParameters }).then(done, fail));
  return transport;
}

async function receive(signalling, device, transport, producer) {
  const options = await signalling.ask("consume", { transport: transport.id, producer, rtpCapabilities: device.recvRtpCapabilities });
  const consumer = await transport.consume(options);
  const element = document.createElement(consumer.kind);
  element.autoplay = true;
  element.srcObject = new MediaStream([consumer.track]);
  document.getElementById("remote").append(element);
  await signalling.ask("resume", { consumer: consumer.id });
}

/** Requests and their answers over one websocket. */
async function connect() {
  const socket = new WebSocket(`ws://${location.host}`);
  const pending = new Map();
  let last = 0;
  const signalling = {
    onAdded: () => undefined,
    ask(method, data = {}) {
      const id = ++last;
      const answer = Promise.withResolvers();
      pending.set(id, answer);
      socket.send(JSON.stringify({ id, method, data }));
      return answer.promise;
    },
  };
  socket.addEventListener("message", ({ data }) => {
    const { id, result, error, added } = JSON.parse(data);
    if (added) return signalling.onAdded(added);
    if (error) pending.get(id).reject(new Error(error));
    else pending.get(id).resolve(result);
    pending.delete(id);
  });
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", () => reject(new Error("no signalling")));
  });
  return signalling;
}
