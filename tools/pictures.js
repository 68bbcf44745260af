/** Runs before a page's own scripts: the camera and the screen of somebody are drawings. */
function draw(name) {
  /** A number from 0 to 1 that is the same for the same name. */
  const chance = (salt) => [...`${name}${salt}`].reduce((sum, it) => (sum * 31 + it.charCodeAt(0)) % 9973, 7) / 9973;
  const SKINS = ["#8d5a3b", "#c98e66", "#e8b891", "#6b4129", "#f0c9a8"];
  const HAIRS = ["#2a1d17", "#5a3a22", "#1c1c22", "#8a5a2b", "#3d2b2b"];
  const pick = (list, salt) => list[Math.floor(chance(salt) * list.length)];

  function person(context, { width, height }, time) {
    const hue = Math.round(chance("wall") * 360);
    const wall = context.createLinearGradient(0, 0, width, height);
    wall.addColorStop(0, `hsl(${hue} 30% 68%)`);
    wall.addColorStop(1, `hsl(${hue + 25} 32% 38%)`);
    context.fillStyle = wall;
    context.fillRect(0, 0, width, height);
    context.fillStyle = `hsl(${hue + 180} 25% 55% / 0.35)`;
    context.fillRect(width * (0.08 + 0.6 * chance("frame")), height * 0.1, width * 0.22, height * 0.34);
    const x = width / 2 + Math.sin(time * 0.7 + chance("sway") * 6) * width * 0.012;
    const y = height * 0.46 + Math.sin(time * 1.3) * height * 0.006;
    const size = height * 0.2;
    const ellipse = (dx, dy, rx, ry, fill) => {
      context.fillStyle = fill;
      context.beginPath();
      context.ellipse(x + dx * size, y + dy * size, rx * size, ry * size, 0, 0, 2 * Math.PI);
      context.fill();
    };
    const skin = pick(SKINS, "skin");
    const hair = pick(HAIRS, "hair");
    const isLong = chance("long") > 0.5;
    if (isLong) ellipse(0, 0.25, 1.02, 1.5, hair);
    ellipse(0, 3, 2.1, 1.75, `hsl(${hue + 140} 38% 34%)`);
    ellipse(0, 1.05, 0.36, 0.6, skin);
    ellipse(0, 0, 0.8, 1, skin);
    context.save();
    context.beginPath();
    context.rect(0, 0, width, y - size * 0.42);
    context.clip();
    ellipse(0, -0.08, 0.88, 1.06, hair);
    context.restore();
    const isBlinking = (time + chance("blink") * 4) % 4 < 0.12;
    for (const side of [-1, 1]) ellipse(side * 0.3, -0.05, 0.075, isBlinking ? 0.015 : 0.085, "#1d1512");
    ellipse(0, 0.48, 0.2, 0.03 + 0.05 * Math.abs(Math.sin(time * 5)), "#7c2f2f");
  }

  function slides(context, { width, height }, time) {
    context.fillStyle = "#fbfaf7";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#12332e";
    context.font = `700 ${height * 0.07}px sans-serif`;
    context.fillText("Viewers per room, this week", width * 0.07, height * 0.16);
    context.font = `${height * 0.035}px sans-serif`;
    context.fillStyle = "#51625e";
    context.fillText("One room grew over four workers on Thursday", width * 0.07, height * 0.235);
    const days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    days.forEach((day, index) => {
      const share = [0.28, 0.34, 0.47, 0.93, 0.71, 0.4, 0.52][index] * (1 + 0.01 * Math.sin(time + index));
      const x = width * (0.08 + index * 0.125);
      context.fillStyle = index === 3 ? "#0f9d85" : "#a8d5ca";
      context.fillRect(x, height * (0.86 - 0.55 * share), width * 0.085, height * 0.55 * share);
      context.fillStyle = "#51625e";
      context.fillText(day, x + width * 0.018, height * 0.925);
    });
  }

  function drawn(draw, width, height, frameRate) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    const paint = () => draw(context, canvas, performance.now() / 1000);
    paint();
    setInterval(paint, 1000 / frameRate);
    return canvas.captureStream(frameRate);
  }

  if (!navigator.mediaDevices) return;
  navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
    const stream = new MediaStream();
    if (video) stream.addTrack(drawn(person, video.width.ideal, video.height.ideal, 10).getVideoTracks()[0]);
    if (audio) {
      const sound = new AudioContext();
      const voice = sound.createOscillator();
      const loudness = sound.createGain();
      const out = sound.createMediaStreamDestination();
      loudness.gain.value = name === "Chiara" ? 0.2 : 0;
      voice.connect(loudness).connect(out);
      voice.start();
      stream.addTrack(out.stream.getAudioTracks()[0]);
    }
    return stream;
  };
  const device = (kind, label) => ({ kind, label, deviceId: label, groupId: label });
  navigator.mediaDevices.enumerateDevices = async () => [
    device("audioinput", "Built-in microphone"),
    device("videoinput", "Built-in camera"),
    device("audiooutput", "Headphones"),
  ];
  navigator.mediaDevices.getDisplayMedia = async () => drawn(slides, 1280, 720, 5);
}
