/** Which resolution the elements of a video need: by their size on the screen and by whether they are visible at all. */

/** Heights of the layers of a 720p camera that is sent in three resolutions, in pixels. */
const LAYER_HEIGHTS = [180, 360];
const SETTLE_MS = 150;
/** A page in the background shows nothing; but who only looks at another one for a moment comes back to moving pictures. */
const BACKGROUND_MS = 3_000;

/** The spatial layer that an element of this height needs, in device pixels. */
export function layerForHeight(height: number): number {
  const found = LAYER_HEIGHTS.findIndex((limit) => height <= limit * 1.2);
  return found < 0 ? LAYER_HEIGHTS.length : found;
}

/** Whether a person may see an element: the page is in front and the element on the screen, or it is in a window of its own. */
function isShown(element: HTMLMediaElement, isOnScreen: boolean): boolean {
  return document.pictureInPictureElement === element || (isOnScreen && !document.hidden);
}

/** Watches the elements that show one video. */
export class AdaptiveStream {
  readonly #visible = new Map<HTMLMediaElement, boolean>();
  readonly #sizes: ResizeObserver;
  readonly #intersections: IntersectionObserver;
  readonly #closed = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #last = "";

  constructor(private readonly onChange: (wanted: { visible: boolean; spatialLayer: number }) => void) {
    this.#sizes = new ResizeObserver(() => this.#soon());
    this.#intersections = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (this.#visible.has(entry.target as HTMLMediaElement)) this.#visible.set(entry.target as HTMLMediaElement, entry.isIntersecting);
      }
      this.#soon();
    });
    // Browsers do not look at intersections while the page is in the background.
    const { signal } = this.#closed;
    document.addEventListener("visibilitychange", () => this.#soon(document.hidden ? BACKGROUND_MS : SETTLE_MS), { signal });
    for (const name of ["enterpictureinpicture", "leavepictureinpicture"]) document.addEventListener(name, () => this.#soon(), { signal, capture: true });
  }

  get elements(): HTMLMediaElement[] {
    return [...this.#visible.keys()];
  }

  attach(element: HTMLMediaElement): void {
    if (!(element instanceof HTMLVideoElement)) return void this.#visible.set(element, true);
    this.#visible.set(element, true);
    this.#sizes.observe(element);
    this.#intersections.observe(element);
    this.#soon();
  }

  detach(element: HTMLMediaElement): void {
    this.#visible.delete(element);
    this.#sizes.unobserve(element);
    this.#intersections.unobserve(element);
    this.#soon();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#closed.abort();
    this.#sizes.disconnect();
    this.#intersections.disconnect();
    this.#visible.clear();
  }

  #soon(ms = SETTLE_MS): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#report(), ms);
  }

  #report(): void {
    const shown = [...this.#visible].filter(([element, visible]) => isShown(element, visible)).map(([element]) => element);
    const height = Math.max(0, ...shown.map((element) => element.clientHeight)) * devicePixelRatio;
    const wanted = { visible: shown.length > 0, spatialLayer: layerForHeight(height) };
    const key = JSON.stringify(wanted);
    if (key === this.#last) return;
    this.#last = key;
    this.onChange(wanted);
  }
}
