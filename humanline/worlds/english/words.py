"""The words of the English world: what texts are about, and what wishes and the expert use."""

# What a text is about: no two splits have one of these in common. All are plural, for the expert.
_SUBJECTS = """
    bakers|sailors|gardeners|teachers|painters|farmers|doctors|dancers|pilots|shepherds|miners
    nurses|tailors|weavers|hunters|fishermen|carpenters|librarians|postmen|clowns|singers|drummers
    cooks|waiters|students|poets|soldiers|kings|queens|pirates|robots|astronauts|detectives|ghosts
    giants|wizards|witches|dragons|mermaids|elves|vampires|inventors|explorers|runners|swimmers
    climbers|cyclists|skaters|chess players|football fans|truck drivers|bus drivers|train drivers
    street sweepers|window cleaners|night guards|bee keepers|clock makers|shoe makers|toy makers
    cats|dogs|horses|cows|goats|sheep|pigs|hens|ducks|geese|swans|owls|crows|eagles|parrots
    penguins|seals|whales|dolphins|sharks|turtles|crabs|frogs|snakes|lizards|spiders|ants|bees
    butterflies|moths|snails|foxes|wolves|bears|lions|tigers|elephants|monkeys|giraffes|zebras
    camels|kangaroos|koalas|pandas|rabbits|hares|mice|hedgehogs|squirrels|beavers|otters|deer
    twins|sisters|brothers|cousins|neighbors|tourists|strangers|babies|children|grandparents
    old friends|new friends|rivals|lost hikers|young parents|school classes|village choirs
    snowmen|scarecrows|lighthouse keepers|mountain guides|beach guards|park rangers|zoo keepers
"""
SUBJECTS = tuple(name.strip() for name in _SUBJECTS.replace("\n", "|").split("|") if name.strip())

SETTINGS = (
    "",
    "at night",
    "at dawn",
    "at noon",
    "on Monday",
    "on a boat",
    "on a train",
    "on an island",
    "on a farm",
    "by a river",
    "by a lake",
    "near a forest",
    "near a castle",
    "under a bridge",
    "under a tree",
    "during a storm",
    "during a party",
    "after school",
    "after dinner",
    "before a race",
    "without money",
    "without a map",
    "far from home",
    "who cannot sleep",
    "who hate rain",
    "who love music",
    "who found gold",
    "who tell lies",
)

_NOUNS = """
    lantern apple bell candle door egg flute garden hat island jar key ladder mirror needle orange
    pillow queen rope shell table umbrella violin window basket cloud dream engine feather glove
    hill ink jewel kite letter moon nest ocean path ring spoon tower
"""
NOUNS = tuple(_NOUNS.split())

AVOIDED = ("the", "and", "a", "to", "they", "of", "in", "are")

# What the expert says of a subject: clauses with a plural verb, as English books have them. They
# are many, so that a model learns how to write from them, and not what.
CLAUSES = (
    "wait",
    "sing",
    "laugh together",
    "never give up",
    "smile at strangers",
    "sleep under open skies",
    "walk home slowly",
    "look at clouds",
    "work very hard",
    "look up at night",
    "tell each other stories",
    "share some bread",
    "sing and dance",
    "play together all day",
    "never stop smiling",
    "find their way home",
    "help each other every day",
    "dance until sunset",
    "are never alone",
    "are always together",
    "sit down and rest",
    "listen to soft music",
    "sit by candlelight",
    "love being together",
    "know every secret path",
    "are a sight to behold",
    "dream of a warm summer",
    "listen to the wind",
    "watch the sun go down",
    "live in a small house",
    "write songs about lost love",
    "tell stories of long ago",
    "are happy when snow falls",
    "build a house of wood",
    "have a lot of fun",
    "make friends wherever they go",
    "wake up before anyone else does",
    "look up at the night sky",
    "wait for the rain to stop",
    "hope for better weather this week",
    "run as fast as they can",
    "know that tomorrow is another day",
    "listen to the sound of the waves",
    "dance and sing until the sun comes up",
)
