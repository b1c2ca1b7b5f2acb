"""The page's side: what is said to it (:mod:`.messages`), how tables travel (:mod:`.encode`), the widget (:mod:`.widget`)."""
