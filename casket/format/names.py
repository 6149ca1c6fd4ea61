"""Two-word names, such as `patient-goat`, for sessions that were given no name."""

from __future__ import annotations

from zlib import crc32

_ADJECTIVES = """
able active agile airy alert amber ample amused ancient apt arctic ardent artful astute atomic
autumn azure balmy basic blithe bold bonny boreal brave breezy brief bright brisk broad bronze
bubbly busy calm candid careful caring casual cheerful chief choral civic civil classic clean
clear clever cloudy coastal cobalt cool copper cordial cosmic cosy courtly crimson crisp crystal
curious cyan dapper daring deep deft desert devout dewy diligent direct distant dreamy dulcet
dusky eager early earnest eastern easy elastic elder elegant emerald endless epic equal even exact
expert fabled fair faithful famous fancy fast festive fine firm first fleet floral fluent fluid
flying fond formal fragrant frank free fresh friendly frosty frugal funny gallant genial gentle
gifted glad gleaming global golden good graceful gracious grand grateful great green handy happy
hardy hearty helpful heroic hidden high honest humble humming icy ideal indigo inland inner ivory
jade jaunty jolly jovial joyful jubilant just keen kind kindly large lasting latent lavish leafy
learned level limber linen little lively local lofty logical long loyal lucid lucky lunar lush
lyric magic main major marble marine mellow merry mighty mild mindful minor mint misty modern
modest mossy mutual narrow natural neat new nimble noble nordic northern notable novel oaken
oceanic onward opal open orange orderly organic outer patient peaceful pearly pensive peppy
perfect placid plain playful pleasant plucky poetic polar polite posh primal prime proper proud
prudent pure purple quaint quick quiet radiant rainy rapid rare ready regal rested rich rising
roaming robust rosy round royal ruby rugged rural russet rustic sage sandy sapphire satin savvy
scarlet scenic secret sedate serene settled shady shining shy silent silken silver simple sincere
skilled sleek sleepy slender smart smiling smooth snowy snug social solar solid sonic sound
southern spare sparkling special speedy spirited splendid square stable starry stately steady
steep stellar stoic strong studious sturdy subtle sudden summer sunny supple sure sylvan tactful
tall tame tawny teal tender thankful thorough thrifty tidal tidy tiny topaz tranquil trim tropical
true trusty tuneful twilight unique united upbeat upper urban useful valiant valid vast velvet
verdant vernal vibrant vital vivid vocal warm wavy western whole wide willing windy winged winter
wise witty wooden woven yellow young youthful zany zealous zesty
"""

_NOUNS = """
acorn albatross alder almond alpaca anchor antelope anvil apple apricot arbor arch armadillo arrow
aspen aster atlas aurora avocado badger bamboo banjo barley basin bay beacon bear bee beetle bell
birch bison blossom boat bobcat boulder bridge brook buffalo butterfly cabin cactus camel canary
candle canoe canyon cape caribou carrot castle cat cavern cedar cello cheetah cherry chestnut
chipmunk cicada clam clarinet cliff cloud clover coast cobble comet compass condor copse coral
cormorant cosmos cottage cove cowbell coyote crab crane crater creek crescent cricket crocus
curlew cypress daffodil dahlia daisy dale dawn deer delta dolphin dove dragonfly drum duck dune
dusk eagle earth echo egret elk elm ember emu estuary falcon feather fen fern ferret ferry fiddle
field fig finch fir firefly fjord flame flamingo flask flax flint flower flute foal forest
fountain fox frog galaxy gale garden gazelle gecko geyser giraffe glacier glade glen globe goat
goldfinch goose gorge grape grotto grouse grove gull guppy hamlet hamster harbor hare harp hawk
hazel heath hedge heron hill hippo holly honey horizon horse ibex ibis iceberg iguana impala inlet
iris island ivy jackal jaguar jasmine jay jellyfish juniper kangaroo kayak kelp kestrel kettle
kingfisher kite kitten kiwi koala lagoon lake lamb lantern larch lark laurel lavender leaf lemon
lemur leopard lichen lighthouse lilac lily lime linden lion lizard llama lobster lotus lynx macaw
magnolia magpie mallard mammoth manatee mango manta maple marigold marlin marmot marsh marten
meadow melon meteor mill minnow mist mole mongoose moon moose moss moth mountain mulberry mushroom
narwhal nebula nest newt nightingale nutmeg oak oasis oat ocean ocelot octopus okapi olive orbit
orchard orchid oriole osprey ostrich otter owl oyster paddle palm panda pansy panther papaya
parrot parsley path peach peacock pear pebble pelican penguin peony pepper perch petal pheasant
piano pigeon pine planet plateau plover plum pond pony poplar poppy porcupine porpoise prairie
primrose puffin puma pumpkin quail quartz quasar quince rabbit rain rainbow raven reef reindeer
ridge river robin rocket rook rose rowan saffron sail salmon sandpiper saturn savanna seahorse
seal sequoia shell shore shrimp skylark sloth snail snow snowdrop sparrow spinach spring spruce
squid squirrel star starfish starling stone stork storm stream sun sunrise sunset swallow swan
swift sycamore tamarin tapir teapot tern thicket thistle thrush thunder thyme tide tiger tortoise
toucan tower trail tree trout tulip tuna tundra turnip turtle vale valley vine viola violet violin
volcano vole walnut walrus warbler waterfall wave whale wheat willow wind wolf wombat wood
woodpecker wren yak yarrow zebra zenith zinnia
"""

_FIRST, _SECOND = _ADJECTIVES.split(), _NOUNS.split()

_MIX = 0x9E3779B97F4A7C15
"""An odd number; multiplication by it spreads ids that differ in few bits."""


def two_words(session_id: str) -> str:
    """Return the two-word name of a session, which only depends on its id.

    Of 1,000 sessions, six share their name with another session on average.
    """
    place = (crc32(session_id.encode()) * _MIX & 0xFFFF_FFFF_FFFF_FFFF) >> 32
    place, noun = divmod(place, len(_SECOND))
    return f"{_FIRST[place % len(_FIRST)]}-{_SECOND[noun]}"
