// The picture of a step, of what is live or of what is replayed, beside that of another episode, and what it is worked with.

import { EpisodeStore } from "./episode-store.ts";
import { LayerSums } from "./layers.ts";
import { contextOf, natural, type Size, stacked } from "./layout.ts";
import { browserClock } from "./link.ts";
import type { Grid } from "./messages.ts";
import type { Page } from "./page.ts";
import { DEFAULT_SHOWN, makePicture, NO_OVERLAY, type PictureView, type Shown } from "./picture.ts";
import { plain } from "./plain.ts";
import { Replay } from "./replay.ts";
import { make, makeReplayBar } from "./replay-bar.ts";
import type { EpisodeRef } from "./selection.ts";
import { isOver, nothingText } from "./standing.ts";
import type { View } from "./status.ts";
import type { Theme } from "./theme.ts";

const GAP = 10;
/** A line below a picture; side by side there are two of them. */
const TITLE = 17;

interface Shot {
  element: HTMLElement;
  picture: PictureView;
  title: HTMLElement;
  /** The row of the episode that its picture is of; null: none, it is live. */
  of: number | null;
}

export function makeGrid(page: Page, theme: Theme): View & { repaint(): void; readonly replay: Replay } {
  const { run, selection, link } = page;
  const element = make("figure", "ltw-grid");
  element.tabIndex = 0;
  element.setAttribute("aria-label", "Picture and replay; ? for keys");
  const stage = make("div", "ltw-stage ltw-shots");
  const nothing = make("p", "ltw-nothing");

  const store = new EpisodeStore((kind, fields) => link.ask(kind, fields), browserClock);
  const motion = typeof matchMedia === "function" ? matchMedia("(prefers-reduced-motion: reduce)") : null;
  const replay = new Replay(selection, store, {
    refOf: (row) => refOf(page, row),
    count: () => run.state?.episodes ?? 0,
    running: (row) => isRunning(page, row),
    calm: () => motion?.matches ?? false,
  });
  let shown: Shown = DEFAULT_SHOWN;
  let ofEpisode = false;
  let frameFault = "";

  const makeShot = (testid: string): Shot => {
    const picture = makePicture(theme, (message) => {
      frameFault = message;
      update();
    });
    picture.element.dataset.testid = testid;
    const title = make("span", "ltw-shot-title");
    const shot = make("div", "ltw-shot");
    shot.append(picture.element, title);
    return { element: shot, picture, title, of: null };
  };
  const main = makeShot("ltw-grid");
  const beside = makeShot("ltw-grid-other");
  const shots = [main, beside];
  stage.append(main.element, beside.element, nothing);

  const sums = new LayerSums(
    (kind, fields) => link.ask(kind, fields),
    browserClock,
    () => update(),
  );
  const controls = makeReplayBar({
    replay,
    switched(change, only) {
      shown = { ...shown, ...change };
      ofEpisode = only ?? ofEpisode;
      update();
    },
    compare(episode) {
      const from = selection.episode;
      if (!from) return;
      void store.find({ worker: from.worker, agent: from.agent, episode }).then((other) => {
        if (other && selection.episode) selection.set({ other });
        else update();
      });
    },
  });

  const caption = make("figcaption", "");
  const where = make("span", "ltw-where");
  where.dataset.testid = "ltw-where";
  const action = make("span", "ltw-action");
  caption.append(where, action, controls.tools);
  element.append(stage, caption, controls.bar);

  const repaint = (): void => {
    for (const { picture } of shots) picture.forget();
    update();
  };
  const resized = new ResizeObserver(repaint);
  resized.observe(stage);
  const onKey = (event: KeyboardEvent): void => {
    if (!controls.key(event)) return;
    event.preventDefault();
    event.stopPropagation();
  };
  element.addEventListener("keydown", onKey);

  /** The step of an episode with its way, as it is replayed. */
  const stepOf = (ref: EpisodeRef, place: number): Grid | null => {
    if (store.absent(ref) !== "") return null;
    const grid = store.step(ref.row, place)?.grid ?? null;
    return grid && { ...grid, path: store.path(ref.row, place) };
  };

  const update = (): void => {
    const { episode, other } = selection;
    if (episode) {
      const total = stepsOf(page, episode.row);
      if (total > store.total(episode.row)) replay.grown(episode.row, total);
    }
    const grid = episode ? stepOf(episode, replay.shown) : (run.state?.grid ?? null);
    const second = other && episode ? stepOf(other, replay.otherPlace ?? 0) : null;
    showLayers(grid);
    showPictures(grid, second, other !== null && episode !== null);
    const possible = layersOf(grid);
    const counting = sums.progress < 1 ? `Counted ${Math.floor(sums.progress * 100)} % of the steps so far.` : "";
    controls.update({
      possible,
      shown,
      ofEpisode,
      note: wantsSums() ? sums.note || counting : "",
      differs: difference()?.step ?? null,
      over: isOver(run),
    });
    controls.bar.hidden = (run.state?.episodes ?? 0) === 0;
    caption.hidden = controls.bar.hidden && !grid;
    where.textContent = plain(whereText(grid));
    where.title = [where.textContent, plain(grid?.game ?? "")].filter(Boolean).join(", ");
    action.textContent = plain(grid?.action ?? "");
    action.title = grid?.action ? `action ${action.textContent}` : "";
  };

  const showPictures = (grid: Grid | null, second: Grid | null, two: boolean): void => {
    const whole: Size = { width: stage.clientWidth, height: stage.clientHeight };
    const size = grid && natural(grid);
    const above = two && size !== null && stacked(size, whole);
    stage.dataset.stacked = String(above);
    beside.element.hidden = !two;
    const title = two ? (above ? TITLE : 2 * TITLE) : 0;
    const room = {
      width: two && !above ? (whole.width - GAP) / 2 : whole.width,
      height: (two && above ? (whole.height - GAP) / 2 : whole.height) - title,
    };
    const differs = two && isDifferent();
    const { episode, other } = selection;
    for (const [shot, one, ref] of [
      [main, grid, episode],
      [beside, second, other],
    ] as const) {
      // While a step is on its way, the last picture stays; but none of another episode when none comes.
      const stays = ref !== null && store.absent(ref) === "" && (shot.of === ref.row || store.fault === "");
      const empty = one ? !shot.picture.show(one, room, overlayOf(one), shown) : !stays || !shot.picture.element.height;
      if (one && !empty) shot.of = ref?.row ?? null;
      shot.picture.element.hidden = empty || (one === null && nothingToDraw(ref));
      shot.title.hidden = !two;
      shot.element.toggleAttribute("data-differs", differs);
      shot.title.textContent = plain(two && ref ? titleOf(ref, shot === beside) : "");
      shot.title.title = shot.title.textContent;
    }
    const { element: canvas } = main.picture;
    nothing.hidden = !canvas.hidden;
    main.element.hidden = canvas.hidden && !two;
    if (canvas.hidden) {
      nothing.textContent = plain(emptyText());
      canvas.setAttribute("aria-label", "no grid yet");
    }
  };

  /** Whether a step is here and has no picture. */
  const nothingToDraw = (ref: EpisodeRef | null): boolean => {
    if (!ref) return true;
    const step = store.step(ref.row, ref === selection.other ? (replay.otherPlace ?? 0) : replay.shown);
    return step !== null && step.grid === null;
  };

  const emptyText = (): string => {
    if (frameFault) return frameFault;
    if (selection.episode) {
      const absent = store.absent(selection.episode);
      if (absent !== "") return absent;
      if (run.isStatic) return `This step is not on the page, and ${store.fault || "there is no kernel"}.`;
      if (store.fault) return `Waiting for the kernel: ${store.fault}`;
      return nothingToDraw(selection.episode) ? "Nothing to draw in this step." : "Waiting for the kernel…";
    }
    return (run.state?.steps ?? 0) > 0 ? "Nothing to draw in these steps." : nothingText(run, "picture");
  };

  const difference = () => {
    const { episode, other } = selection;
    if (!episode || !other) return undefined;
    const running = isRunning(page, episode.row) || isRunning(page, other.row);
    // While one of them runs, it is looked again as they grow.
    const version = running ? store.total(episode.row) + store.total(other.row) : 0;
    return store.difference(episode.row, other.row, version);
  };

  const isDifferent = (): boolean => {
    const found = difference();
    return !!found && found.step !== null && (selection.step ?? -1) + replay.beyond >= found.step;
  };

  const titleOf = (ref: EpisodeRef, second: boolean): string => {
    const absent = store.absent(ref);
    if (second && absent !== "") return absent;
    const ended = (second ? replay.otherEnded : replay.beyond > 0) && !isRunning(page, ref.row);
    const end = ended ? " · ended" : "";
    const found = second ? difference() : undefined;
    if (!found) return `episode ${ref.episode}${end}`;
    if (found.step === null) return `${ref.episode}: no difference${end}`;
    return `${ref.episode} differs from step ${found.step}: ${found.what}${end}`;
  };

  const whereText = (grid: Grid | null): string => {
    const { episode, step } = selection;
    if (!episode) return grid?.caption || grid?.game || "";
    if (store.absent(episode) !== "") return `episode ${episode.episode}`;
    const { total } = replay;
    const of = total > 0 ? ` of ${total.toLocaleString("en")}` : "";
    const late = store.fault ? ` · ${store.fault}` : "";
    return `episode ${episode.episode}, step ${step ?? "…"}${of}${late}`;
  };

  // -- layers

  const wantsSums = (): boolean => shown.heat || shown.policy || shown.values;

  const showLayers = (grid: Grid | null): void => {
    if (!grid || grid.partial || grid.tiles.length === 0 || !wantsSums()) return;
    const { episode } = selection;
    const agent = episode?.agent ?? selection.agent;
    const range = ofEpisode && episode ? ([episode.row, episode.row] as const) : null;
    sums.want({ agent, range, game: grid.game, context: contextOf(grid) }, run.state?.steps ?? 0);
  };

  const overlayOf = (grid: Grid) => ({
    ...NO_OVERLAY,
    path: grid.path ?? [],
    ...(wantsSums() && !grid.partial ? sums.overlay : {}),
  });

  const stops = [selection.listen(update), replay.listen(update)];
  return {
    element,
    replay,
    update,
    repaint,
    close() {
      for (const stop of stops) stop();
      resized.disconnect();
      element.removeEventListener("keydown", onKey);
      controls.close();
      sums.close();
      replay.close();
      store.close();
      for (const { picture } of shots) picture.close();
    },
  };
}

/** Which layers a picture can have. */
function layersOf(grid: Grid | null): ReadonlySet<keyof Shown> {
  const found = new Set<keyof Shown>();
  if (!grid || grid.tiles.length === 0) return found;
  if (grid.agent && (grid.facing || grid.action)) found.add("direction");
  if (grid.game === "Taxi") found.add("passenger").add("destination");
  if (grid.tiles.some((row) => row.includes("H"))) found.add("cracked");
  if (grid.agent && !grid.partial) found.add("path").add("heat").add("policy").add("values");
  return found;
}

/** Which episode is in a row, if the page has that row. */
function refOf({ run }: Page, row: number): EpisodeRef | null {
  const held = run.episodes.row(row);
  if (!held) return null;
  const at = (name: string): unknown => held.frame.columns.get(name)?.at(held.index);
  const episode = Number(at("episode"));
  if (!Number.isSafeInteger(episode)) return null;
  return { row, worker: String(at("worker_id") ?? ""), agent: String(at("agent_id") ?? ""), episode };
}

function stepsOf({ run }: Page, row: number): number {
  const held = run.episodes.row(row);
  return held ? Number(held.frame.columns.get("steps")?.at(held.index) ?? 0) : 0;
}

/** Whether an episode may still get steps. */
function isRunning({ run }: Page, row: number): boolean {
  const held = run.episodes.row(row);
  return held?.frame.columns.get("outcome")?.at(held.index) === "Running";
}
