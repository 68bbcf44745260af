/** A field that narrows a list. */

import { Search as Icon } from "lucide-preact";

export function Search({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  return (
    <label class="search">
      <Icon size={15} aria-hidden />
      <span class="hidden">{label}</span>
      <input type="search" placeholder={label} value={value} onInput={(event) => onChange(event.currentTarget.value)} />
    </label>
  );
}
