/** How a video in one encoding with spatial layers in it (SVC) is sent without the layers that nobody receives. No I/O. */

/** Encoders make no spatial layer with shorter sides than these, in pixels (libwebrtc, for VP9 and AV1). */
const MIN_LONG_SIDE = 240;
const MIN_SHORT_SIDE = 135;

export interface SvcEncoding {
  readonly scalabilityMode: string;
  readonly scaleResolutionDownBy: number;
  /** In bits per second. */
  readonly maxBitrate: number;
}

/** The spatial layers that an encoder makes of a picture of this size when it is asked for `wanted`. */
export function spatialLayers(wanted: number, width: number, height: number): number {
  const halvings = Math.log2(Math.min(Math.max(width, height) / MIN_LONG_SIDE, Math.min(width, height) / MIN_SHORT_SIDE));
  return Math.max(1, Math.min(wanted, 1 + Math.floor(Math.max(0, halvings))));
}

/**
 * The encoding with the layers up to `highest` of what `whole` is, each as large as before: a mode with fewer layers begins at the
 * picture's own size, so that is scaled down.
 */
export function svcUpTo(highest: number, whole: SvcEncoding, width: number, height: number): SvcEncoding {
  const mode = /^L(\d)(T\d)/.exec(whole.scalabilityMode);
  if (!mode?.[1] || !mode[2]) return whole;
  const layers = spatialLayers(Number(mode[1]), width, height);
  if (highest >= layers - 1) return whole;
  const scale = 2 ** (layers - 1 - highest);
  return {
    scalabilityMode: highest === 0 ? `L1${mode[2]}` : `L${highest + 1}${whole.scalabilityMode.slice(2)}`,
    scaleResolutionDownBy: whole.scaleResolutionDownBy * scale,
    maxBitrate: Math.round(whole.maxBitrate / scale ** 1.5),
  };
}
