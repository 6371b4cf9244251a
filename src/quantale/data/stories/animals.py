"""Animal plots: life in the forest, with winter, storms, lost paths and first flights."""

from quantale.data.stories.grammar import Plot

LOST = Plot(
    name="lost",
    hero="animal",
    friend="animal",
    prompts=(
        "{hero} the {kind} is lost, and {friend} the {kind2} shows {him} the way home.",
        "A young {kind} follows {lure} and loses the way.",
    ),
    slots={
        "lure": (
            *("a yellow butterfly", "a white cloud", "a red butterfly", "a bright light"),
            *("a blue bird", "a line of ants"),
        ),
        "home|mark": (
            "near the big oak|an oak with a broken branch",
            "by the stream|a stream with three round stones",
            "under the big rock|a rock with a flat top",
            "next to the pond|a pond with white flowers",
        ),
        "stranger|answer": (
            "an old owl|I only fly at night, so I do not know",
            "a bird|I have no time, I have to work",
            "a sleepy snail|I have never been that far",
            "a proud deer|I do not look at small things",
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was a young {kind} who lived {home}.",
                "{Home} there lived a young {kind} named {hero}.",
            ),
            (
                '"Do not go too far," {his} mother always said.',
                "{His} mother told {him} to stay close to home.",
            ),
            (
                "But {day} {he} saw {lure} and followed it.",
                "{Day}, {he} followed {lure} deep into the forest.",
            ),
            (
                "When {he} looked up, all the trees looked strange.",
                "When {he} turned around, {he} did not know where {he} was.",
            ),
        ),
        (
            (
                '"I am lost," said {hero}, and {he} began to cry.',
                '"Where is my home?" cried {hero}.',
            ),
            ('{He} asked {stranger}. "{answer}," was the answer.',),
            (
                "{hero} felt very small and alone.",
                "The sun went down, and it grew cold.",
                "",
            ),
        ),
        (
            (
                "Then {a_kind2} came by. {His2} name was {friend}.",
                "Then {friend} the {kind2} came out from behind a bush.",
            ),
            (
                '"What do you remember about your home?" asked {friend}.',
                '"Tell me what your home looks like," said {friend}.',
            ),
            (
                '"There is {mark}," said {hero}.',
                '{hero} closed {his} eyes. "I remember {mark}," {he} said.',
            ),
            (
                '"I know that place!" said {friend}. "Follow my tail."',
                '"Then it is not far," said {friend}. "Come with me."',
            ),
        ),
        (
            (
                "They walked through the high grass and through the soft leaves.",
                "They walked until they heard a voice that {hero} knew.",
            ),
            (
                "{His} mother ran to meet them and hugged {him}.",
                "And there was {his} mother! She held {him} close.",
            ),
            (
                '"Stay and eat with us," she said to {friend}.',
                '"Thank you, {friend}," she said. "Come back soon."',
            ),
            (
                "After that, {hero} always looked back to remember the way.",
                "Since that day, {hero} and {friend} have been friends.",
            ),
        ),
    ),
)

WINTER = Plot(
    name="winter",
    hero="animal",
    friend="animal",
    prompts=(
        "{hero} the {kind} saves {food} for the winter, and {friend} has none.",
        "Winter comes to the forest, and {hero} shares {his} {food}.",
    ),
    slots={
        "food": ("nuts", "berries", "apples", "seeds", "roots"),
        "home": ("in an old tree", "under the roots of an oak", "in a hole in the hill"),
        "play": (
            *("danced in the leaves", "lay in the sun", "sat by the pond"),
            *("sang all day", "played by the stream"),
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was {a_trait} {kind} who lived {home}.",
                "{Home} there lived {a_kind} named {hero}.",
            ),
            (
                "All summer, {he} looked for {food} and put them away.",
                "Every day, {he} carried {food} into {his} home.",
            ),
            (
                "{His} neighbor {friend} was {a_kind2} who {play}.",
                "{friend} the {kind2} did not work. {He2} {play}.",
            ),
            (
                '"Why do you work so much?" {friend} asked. "Winter is far away."',
                '"Come and play!" called {friend}. "There will always be food."',
            ),
        ),
        (
            (
                "Then the snow came. It fell and fell, and the forest was white.",
                "Then winter came, and the stream turned to ice.",
            ),
            (
                "{hero} was warm, and {he} had many {food}.",
                "{hero} sat in {his} warm home and ate {his} {food}.",
            ),
            (
                "But {friend} found nothing to eat under the snow.",
                "But {friend} was cold and hungry.",
            ),
        ),
        (
            (
                "One night, somebody was at the door. It was {friend}.",
                "One evening, {hero} heard a small voice outside. It was {friend}.",
            ),
            (
                '"I am so hungry," said {friend}. "I should have worked too."',
                '"May I come in?" asked {friend}. {His2} nose was blue with cold.',
            ),
            (
                '"Come in and eat," said {hero}. "There are {food} for both of us."',
                '{hero} opened the door wide. "We can share what I have," {he} said.',
            ),
            (
                "They told stories by the fire until the wind was quiet.",
                "They kept each other warm, tail to tail, while the wind blew.",
            ),
        ),
        (
            (
                "Then the winter was over, and the first flowers came out of the snow.",
                "{Atlast} the snow melted, and the sun was warm again.",
            ),
            (
                "{friend} brought {hero} some flowers to say thank you.",
                '"This year I will help you," said {friend}.',
            ),
            (
                "The next summer, they looked for {food} together, and it was more fun.",
                "In the next winter, nobody in the forest was hungry.",
            ),
        ),
    ),
)

FLIGHT = Plot(
    name="flight",
    hero="bird",
    friend="small animal",
    prompts=(
        "{hero} the {kind} is afraid to fly, until {friend} needs help.",
        "A young {kind} learns to fly from {perch}.",
    ),
    slots={
        "perch": (
            "the old oak",
            "the barn roof",
            "the tall tower",
            "the castle wall",
            "the high rock",
        ),
        "try": (
            "{He} jumped, opened {his} wings and fell into the grass.",
            "{He} jumped up and down, but {he} did not leave the nest.",
            "{He} looked down, and {he} was too scared to move.",
        ),
        "danger|rescue": (
            "a fox was close behind {him2}|flew right at its nose, and the fox ran away",
            "the ice under {him2} broke|dropped a branch for {friend} to hold",
            "a wild dog came through the grass|flew around its head until it ran away",
            "a big stone rolled down the hill|cried out, and {friend} jumped away just in time",
        ),
    },
    paragraphs=(
        (
            (
                "{hero} was a young {kind} who lived in a nest on {perch}.",
                "High up on {perch} there was a nest, and in it lived {a_kind} named {hero}.",
            ),
            (
                "All the other birds could fly, but {hero} could not.",
                "It was time to learn to fly, but {hero} was afraid.",
            ),
            ("{try}",),
        ),
        (
            (
                '"I will never learn it," {he} said to {his} friend {friend}, {a_kind2}.',
                '{His} friend {friend}, {a_kind2}, came by. "I cannot do it," said {hero}.',
            ),
            (
                '"You will," said {friend}. "I fell down many times before I could walk."',
                '"Try it again tomorrow," said {friend}. "I will wait for you down here."',
            ),
            (
                "{hero} tried it every day, and every day {he} fell.",
                "But the next day {he} fell again.",
                "",
            ),
        ),
        (
            (
                "Then {hero} saw something dangerous from the nest.",
                "One morning, {hero} looked down and was very scared.",
            ),
            (
                "{friend} sat in the meadow, and {danger}!",
                "{friend} was on {his2} way, and {danger}!",
            ),
            (
                '"{friend}, look out!" {he} called, but {friend} did not hear {him}.',
                "There was no time to think.",
            ),
            (
                "{hero} jumped, opened {his} wings, and the wind carried {him}.",
                "{hero} forgot that {he} was afraid, and {he} jumped.",
            ),
            ("{He} {rescue}.",),
        ),
        (
            (
                '"You saved me!" cried {friend}. "And you can fly!"',
                '"{hero}, you flew!" cried {friend}.',
            ),
            (
                "Only then did {hero} see how far {he} had come.",
                "{hero} looked at {his} wings. It was true!",
            ),
            (
                "From then on, {he} flew over the meadow every morning.",
                "Now {he} flew so high that the trees looked like grass.",
                "And each day {he} flew down to visit {his} friend.",
            ),
        ),
    ),
)

HOME = Plot(
    name="home",
    hero="animal",
    friend="animal",
    prompts=(
        "{disaster} breaks the home of {hero} the {kind}, and all the others help.",
        "{hero} the {kind} needs a new home. {friend} has an idea.",
    ),
    slots={
        "disaster": ("a storm", "a fire", "heavy rain", "deep snow"),
        "home": ("a hole under a bush", "a small house of wood", "a cave by the river"),
        "bad|fault": (
            "a tunnel|it was wet and dark",
            "an old shoe|it was too small",
            "a nest|there was a bird in it",
            "an empty box|it rolled down the hill",
        ),
        "team": (
            *("The deer brought wood, and the birds brought leaves.",),
            *("The goat brought stones, and the ants carried seeds.",),
            *("The birds brought grass, and the ants made a path.",),
        ),
    },
    paragraphs=(
        (
            (
                "{hero} the {kind} lived in {home}.",
                "There was once {a_kind} named {hero}, who lived in {home}.",
            ),
            (
                "But {day} {disaster} broke it.",
                "Then came {disaster}, and {his} home was gone.",
            ),
            (
                '"Where can I sleep now?" asked {hero}.',
                "{hero} sat in the wet grass, and {he} was very sad.",
                "{hero} had nothing left but {his} tail.",
            ),
        ),
        (
            (
                "{He} walked through the forest to find a new place.",
                "{He} looked for a new home all day.",
            ),
            ("{He} tried {bad}, but {fault}.", "There was {bad}. But {fault}."),
            (
                "In the evening {he} met {friend}, {a_kind2}.",
                "Then {he} came to the home of {friend} the {kind2}.",
            ),
            (
                '"You can sleep at my place tonight," said {friend}. "Tomorrow we will see."',
                '"Come in," said {friend}. "There is enough room for two."',
            ),
        ),
        (
            (
                "The next morning, {friend} called all the others.",
                "When the sun came up, {friend} told all the others about it.",
            ),
            (
                '"If we all help, it will be done by night," {he2} said.',
                '"Today it is {hero}, tomorrow it may be one of us," {he2} said.',
            ),
            ("{team}",),
            (
                "{friend} and {hero} made the roof.",
                "{hero} worked most of all.",
            ),
        ),
        (
            (
                "In the evening the new home was done, and it was warm and dry.",
                "{Atlast} they were done. It was the best home in the forest.",
            ),
            (
                '"Thank you, all of you," said {hero}. "My door is always open."',
                '"I lost a home and found many friends," said {hero}.',
            ),
            (
                "They ate berries together until the stars came out.",
                "And {friend} was the first to visit.",
            ),
        ),
    ),
)

PLOTS = (LOST, WINTER, FLIGHT, HOME)
