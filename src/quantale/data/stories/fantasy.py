"""Fantasy plots: dragons, spells, giants and things with magic in them."""

from quantale.data.stories.grammar import Plot

DRAGON = Plot(
    name="dragon",
    hero="royal",
    friend="dragon",
    prompts=(
        "{hero}, {a_trait} {kind}, meets {friend} the dragon in {land}.",
        "{A_kind} helps an unhappy dragon in {land}.",
    ),
    slots={
        "land": (
            *("the kingdom of the hills", "a kingdom by the sea", "a kingdom of ice"),
            *("the land of the moon", "a golden kingdom"),
        ),
        "trouble|cure|result": (
            "I have lost my fire|a red apple from the magic garden"
            "|a big fire came out of {his2} mouth",
            "I am afraid to fly|a book of magic and showed {him2} how to jump"
            "|{he2} flew up into the sky",
            "I am cold|the biggest blanket in the land|{he2} was warm again",
            "I am so lonely|a basket of bread and sat down next to {him2}|{he2} began to smile",
        ),
        "lair": ("in a cave", "on a mountain", "behind the waterfall", "in an old tower"),
    },
    paragraphs=(
        (
            (
                "Once upon a time, there was {a_trait} {kind} named {hero}, who lived in {land}.",
                "Long ago, in {land}, there lived {a_kind} named {hero}.",
            ),
            (
                "Everybody was afraid of the dragon who lived {lair}.",
                "A great dragon lived {lair}, and nobody wanted to go there.",
            ),
            (
                'But {hero} said, "I want to see this dragon."',
                "But {hero} was not afraid.",
            ),
        ),
        (
            (
                "So {he} went there on {his} white horse.",
                "{Day}, {he} went there all alone.",
            ),
            (
                "The dragon was as big as a house and had green eyes.",
                "The dragon lay on the ground and did not look dangerous at all.",
            ),
            (
                '"Why are you so sad?" asked {hero}.',
                '"Good day, dragon," said {hero}. "You look sad."',
            ),
            (
                '"My name is {friend}," said the dragon, "and {trouble}."',
                '"I am {friend}," said the dragon. A big tear fell on the ground. "{Trouble}."',
            ),
        ),
        (
            (
                '"I can help you," said {hero}.',
                '"Wait here, {friend}," said {hero}. "I know what you need."',
            ),
            ("{He} came back with {cure}.", "The next day, {he} came with {cure}."),
            ('"Will it work?" asked {friend}.', "At first nothing happened.", ""),
            ("{Atlast} {result}.", "And {then} {result}!"),
        ),
        (
            (
                '"You did it!" cried {friend}. "You are my first friend."',
                '"Thank you, {hero}," said {friend}. "Now we are friends."',
            ),
            (
                "Together they flew over the whole kingdom.",
                "{hero} climbed on {his2} back, and they flew to the castle.",
            ),
            (
                "The king and the queen were surprised, but they gave {friend} a big cake.",
                "From that day on, nobody in the kingdom was afraid of {friend}.",
                "And they lived happily ever after.",
            ),
        ),
    ),
)

SPELL = Plot(
    name="spell",
    hero="magician",
    friend="magician",
    prompts=(
        "{hero} the {kind} says the wrong spell, and {victim} turns into {a_shape}.",
        "A spell goes wrong, and {hero} has to learn to be patient.",
    ),
    slots={
        "shape": ("snail", "duck", "mouse", "fish", "goat", "butterfly", "bell"),
        "victim|old": (
            "the teacher|the teacher of magic",
            "the black cat|the black cat of the house",
            "the cook|the cook of the magic school",
            "the king|the king of the land",
        ),
        "wish": ("to make it snow", "to make a cake", "to fly", "to make gold"),
        "cure": (
            *("say the spell again", "turn around three times", "say a true word"),
            *("use water and a feather",),
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was {a_little} {kind} who went to a school of magic.",
                "In a tall tower there lived {a_trait} {kind} named {hero}.",
            ),
            (
                "{He} never had time.",
                "{He} never read a spell to the end.",
            ),
            (
                "{Day}, {he} wanted {wish}.",
                '{Day}, {he} said, "Today I will use magic {wish}!"',
            ),
            ("{He} took {his} wand and said the magic words.", "{He} held up {his} wand. Bump!"),
        ),
        (
            (
                "But it was the wrong spell, and {victim} turned into {a_shape}!",
                "There was a green light everywhere. And {victim}? Now {victim} was {a_shape}!",
            ),
            ('"Oh no!" cried {hero}.', '"What have I done?" cried {hero}.'),
            (
                "{He} tried one spell after another, but the {shape} stayed {a_shape}.",
                "{He} used {his} wand again, but it only made the {shape} blue.",
            ),
            (
                "So {he} ran to {his} friend {friend}, who was {a_kind2}.",
                "Only {friend}, {a_kind2} who knew every book, could help {him} now.",
            ),
        ),
        (
            (
                '"Magic takes time," said {friend}. "We must read the whole book."',
                '"Sit down," said {friend}. "This time, we will read every word."',
            ),
            (
                "They read all night, book after book.",
                "They read until the sun came up.",
            ),
            (
                '"Here it is!" said {hero}. "I have to {cure}."',
                '"Look, {hero}!" said {friend}. "You have to {cure}."',
            ),
            (
                "{hero} did it very slowly and carefully.",
                "{hero} did it, and this time {he} was careful.",
            ),
        ),
        (
            (
                "Bump! There was {old} again, as if nothing had happened.",
                "The {shape} was gone, and {old} stood before them.",
            ),
            (
                '"I am sorry," said {hero}. "From now on I will be careful."',
                '"Thank you for your help, {friend}," said {hero}.',
            ),
            (
                "And from then on, {hero} read every spell to the end.",
                "{friend} smiled. There was more than one kind of magic.",
            ),
        ),
    ),
)

GIFT = Plot(
    name="gift",
    hero="child",
    friend="magician",
    prompts=(
        "{friend} the {kind2} gives {hero} a magic {thing} to save {place}.",
        "{hero} may use a magic {thing} only once.",
    ),
    slots={
        "thing": ("seed", "bell", "lamp", "ring", "key", "feather", "stone"),
        "place": ("the village", "the old town", "the green valley"),
        "trouble|wonder": (
            "there was no rain|soft rain began to fall",
            "winter did not want to end|the snow melted, and there were flowers everywhere",
            "the sun had not come up for a week|the sun came up, round and golden",
            "there was no more music|there was music everywhere",
        ),
        "selfish": ("a castle", "a horse with wings", "a box of gold"),
    },
    paragraphs=(
        (
            (
                "Long ago, everybody in {place} was sad, because {trouble}.",
                "Once upon a time, the people of {place} were sad, because {trouble}.",
            ),
            ("Nobody knew what to do.", "Not even the king knew what to do.", ""),
            (
                "{A_trait} {kind} named {hero} went into the magic forest to find help.",
                "So {hero}, {a_trait} {kind}, went into the magic forest.",
            ),
        ),
        (
            (
                "There {he} met {a_kind2}, and {his2} name was {friend}.",
                "Under a silver tree sat {a_kind2} named {friend}.",
            ),
            (
                '"You are hungry," said {hero}. "Please take my bread."',
                "{hero} gave {him2} some of {his} bread.",
            ),
            (
                '"You have a good heart," said {friend}. "Take this magic {thing}."',
                '"Because you are kind, I will give you my magic {thing}," said {friend}.',
            ),
            (
                '"You can use it once, but only once. Be careful!"',
                '"You can use it only once," {he2} said, "so think first."',
            ),
        ),
        (
            (
                'On the way home, {hero} thought, "I want {selfish}!"',
                '"With this I could have {selfish}," {hero} thought.',
            ),
            (
                "But then {he} thought of all the people at home.",
                "Then {he} saw the sad people, and {he} knew what to do.",
            ),
            (
                "{He} held the magic {thing} up high and thought of everybody.",
                '{He} took the {thing} in both hands. "Please help us all," {he} said.',
            ),
            (
                "There was a bright light, and {wonder}.",
                "The {thing} was full of light, and {wonder}.",
            ),
        ),
        (
            (
                "The people danced and sang all night.",
                "Everybody came out of the houses and danced.",
            ),
            (
                "{friend} watched from the forest and smiled.",
                '"Thank you, {hero}," said the voice of {friend} in the wind.',
            ),
            (
                "And the {thing}? It was only {a_thing} now, but {hero} always kept it.",
                "The magic was gone, but {place} was happy ever after.",
            ),
        ),
    ),
)

GIANT = Plot(
    name="giant",
    hero="royal",
    friend="magician",
    prompts=(
        "A giant sits on {road}. {hero} and {friend} find out why.",
        "{Kind} {hero} meets a giant who only wants {want}.",
    ),
    slots={
        "want|deed": (
            "a song|sang the longest song that they knew",
            "a bed|made a bed of leaves that was as big as a house",
            "a friend|sat down and told the giant a story",
            "a cake|made a cake that was as tall as a tree",
            "a hat|made a hat out of many blankets",
        ),
        "road": ("the road to the castle", "the road to the sea", "the forest road"),
        "failed": (
            *("The king shouted, but the giant did not move.",),
            *("The whole town pushed him, but the giant did not move.",),
            *("The queen gave him gold, but the giant did not want it.",),
        ),
    },
    paragraphs=(
        (
            (
                "Once upon a time, a giant sat down on {road} and did not get up again.",
                "In a land of magic, a giant sat on {road}, and nobody could get past.",
            ),
            ("{failed}",),
            (
                "{Kind} {hero} saw this and called {friend}, {a_trait} {kind2}.",
                '"Let me try," said {Kind} {hero}, and {he} took {friend} the {kind2} with {him}.',
            ),
        ),
        (
            (
                '"Can you use a spell?" asked {hero}.',
                '"Do you know a spell for this?" asked {hero}.',
            ),
            (
                '"I could," said {friend}, "but first we should ask him why."',
                '"Magic can wait," said {friend}. "Has anybody asked him why?"',
            ),
            ("Nobody had thought of that.", "{hero} had to laugh. Nobody had.", ""),
            (
                "So {hero} climbed on a wall, right up to the head of the giant.",
                "So {hero} called up to the giant with a big voice.",
            ),
            (
                '"Dear giant, what do you need?" {he} asked.',
                '"What can we do for you?" {he} asked.',
            ),
        ),
        (
            (
                'The giant was surprised. "I only want {want}," he said.',
                '"Nobody has ever asked me," said the giant. "I want {want}."',
            ),
            ("So {hero} and {friend} {deed}.", "{hero} and {friend} went to work. They {deed}."),
            (
                "A magic light went around the giant, and he smiled.",
                "The giant was so {glad} that he began to dance.",
            ),
        ),
        (
            (
                'Then he stood up. "Thank you, {hero}. Thank you, {friend}," he said.',
                '"Thank you, little people," he said, and he stood up.',
            ),
            (
                "With three steps he was over the hill.",
                "And {road} was free again.",
            ),
            (
                "Every year he came back to visit them, but he never sat on the road again.",
                "From then on, the people of the kingdom always asked first.",
                "And they all lived happily ever after.",
            ),
        ),
    ),
)

PLOTS = (DRAGON, SPELL, GIFT, GIANT)
