"""Why attention thins out as a text grows: a planted fact, a needle in noise, prefixes of any sequence, every head."""
