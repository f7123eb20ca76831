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

# What the expert says of a subject: short clauses with a plural verb.
CLAUSES = (
    "wait",
    "sing loudly",
    "laugh together",
    "walk home slowly",
    "look at clouds",
    "count every star",
    "share some bread",
    "tell old stories",
    "never stop smiling",
    "dance until sunset",
    "sleep for two hours",
    "listen to quiet music",
    "play cards by candlelight",
    "carry water up a hill",
    "sit down and drink tea",
    "dream of a warm summer",
    "write songs about lost love",
    "are happy when snow falls",
    "paint their boats bright green",
    "wake up before anyone else does",
    "find small stones in cold water",
    "build a house of wood and clay",
    "hope for better weather this week",
    "run as fast as they possibly can",
)
