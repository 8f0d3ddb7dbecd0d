"""The pages that our staff work with. A process of its own, and the one place that shows texts."""
