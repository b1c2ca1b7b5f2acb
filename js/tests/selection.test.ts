import { describe, expect, test, vi } from "vitest";
import { FakeKernel } from "../fake-kernel.ts";
import { NOTHING_SELECTED, parseSelected, Selection, type SelectionListener } from "../src/selection.ts";
import { shareSelection } from "../src/traits.ts";

const first = { row: 0, worker: "w", agent: "a", episode: 3 };
const second = { row: 1, worker: "w", agent: "a", episode: 4 };

describe("a selection", () => {
  test("another episode takes the step along, and ends live; live lets go of all of it but the filter", () => {
    const selection = new Selection();
    const heard = vi.fn<SelectionListener>();
    selection.listen(heard);
    selection.set({ episode: first, step: 5, filter: "reward > 0" });
    expect(selection.now).toMatchObject({ episode: first, step: 5, live: false });
    selection.set({ episode: { ...first } });
    expect(heard).toHaveBeenCalledTimes(1);
    selection.set({ episode: second });
    expect(selection.now).toMatchObject({ episode: second, step: null });
    selection.set({ live: true });
    expect(selection.now).toEqual({ ...NOTHING_SELECTED, filter: "reward > 0" });
    expect(heard).toHaveBeenCalledTimes(3);
    expect(heard.mock.calls[2]?.[1].episode).toEqual(second);
  });

  test("what is no selection is as if nothing were selected", () => {
    expect(parseSelected(null)).toEqual(NOTHING_SELECTED);
    expect(parseSelected({ episode: { row: "1" }, step: 1.5, steps: [1], agent: 3, filter: {}, live: 0 })).toEqual(
      NOTHING_SELECTED,
    );
  });
});

describe("shared with the model's traits", () => {
  test("each side's change arrives at the other once", () => {
    const kernel = new FakeKernel();
    const selection = new Selection();
    const end = shareSelection(kernel.model as never, selection);
    selection.set({ episode: first, step: 2 });
    expect(kernel.traits).toMatchObject({ selection: { episode: first, live: false }, step: 2, filter: "" });
    expect(kernel.saved).toBe(1);
    kernel.setTrait("filter", "reward < 0");
    expect(selection.now).toMatchObject({ episode: first, filter: "reward < 0" });
    kernel.setTrait("step", 4);
    expect(selection.step).toBe(4);
    kernel.setTrait("selection", { episode: second, steps: [1, 2] });
    expect(selection.now).toMatchObject({ episode: second, step: null, steps: [1, 2], filter: "" });
    expect(kernel.traits).toMatchObject({ filter: "", step: null });
    end();
    expect(kernel.listeners).toBe(0);
  });
});
